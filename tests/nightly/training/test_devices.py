"""Several devices train the model that one trains; what they cannot share is refused."""

import json
import subprocess
import sys
from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf

from nightly.io.paths import ROOT
from nightly.training import devices
from nightly.training.devices import refuse_own_steps, strategy_of
from nightly.training.errors import TrainingError


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [SimpleNamespace(name=f"/device:GPU:{number}") for number in range(2)]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: names if kind == devices.KIND else [])


def test_one_device_is_tensorflow_s_own_choice():
    assert strategy_of(1, 7).num_replicas_in_sync == 1
    assert strategy_of("all", 7).num_replicas_in_sync == 1  # there is none here


def test_more_devices_than_there_are_are_refused(two):
    with pytest.raises(TrainingError, match=r"training\.gpus is 4, and TensorFlow sees 2 here"):
        strategy_of(4, 512)


@pytest.mark.parametrize("gpus", [2, "all"])
def test_a_batch_that_cannot_be_shared_equally_is_refused(two, gpus):
    with pytest.raises(TrainingError, match="511, which 2 GPUs cannot share equally: set a multiple of 2"):
        strategy_of(gpus, 511)


def test_a_model_with_a_training_step_of_its_own_is_refused_only_on_several_devices():
    class Own(keras.Model):
        def train_step(self, data):
            return {}

    model = Own()
    refuse_own_steps(model, "model.py")
    model._distribute_strategy = SimpleNamespace(num_replicas_in_sync=2)
    with pytest.raises(TrainingError, match=r"the model of model\.py has a train_step of its own"):
        refuse_own_steps(model, "model.py")
    plain = keras.Sequential([keras.layers.Dense(1)])
    plain._distribute_strategy = SimpleNamespace(num_replicas_in_sync=2)
    refuse_own_steps(plain, "model.py")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_virtual_devices_train_and_export_what_one_does(tmp_path):
    command = [sys.executable, "-m", "tests.support.virtual_devices", str(tmp_path), "taxi", "2015-07-01", "1", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads(done.stdout.splitlines()[-1])

    assert "training on " not in results["1"]["devices"]
    assert results["2"]["devices"].endswith("with 128 of the 256 rows of a batch each")
    assert results["2"]["metrics"] == pytest.approx(results["1"]["metrics"], abs=2e-4)
    assert results["2"]["answers"] == pytest.approx(results["1"]["answers"], abs=1e-5)
