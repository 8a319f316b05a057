"""A night of each model on its real data: transformed, trained, exported, and asked in a process of its own."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from nightly.models import load_config
from nightly.records.golden import GOLDEN, Golden
from nightly.training.answers import ExportError
from nightly.training.run import run_fn
from nightly.training.samples import WARM_UP, add_samples
from tests.support.trial_night import night

pytestmark = pytest.mark.slow

ASK = Path(__file__).with_name("ask.py")


@pytest.mark.parametrize(("name", "as_of"), [("taxi", "2015-07-01"), ("complaints", "2016-03-14")])
def test_a_night_gives_a_model_above_its_floor_that_answers_every_signature(name, as_of, tmp_path, caplog):
    caplog.set_level(logging.INFO, "nightly")
    fn_args = night(name, as_of, tmp_path)
    run_fn(fn_args)
    add_samples(fn_args.serving_model_dir, str(tmp_path / "raw/Split-eval/*"), name)

    config = load_config(name)
    model = Path(fn_args.serving_model_dir)
    golden = Golden.load(model / GOLDEN)
    label = config.data.label.column
    assert all(label not in example.features for example in golden.examples)
    assert f"step {config.training.steps} of {config.training.steps}: " in caplog.text
    assert "on the eval split: auc " in caplog.text

    answers = asked_elsewhere(model, tmp_path / "raw/Split-eval", label)
    assert answers["methods"] == {
        "serving_default": "tensorflow/serving/predict",
        "raw_features": "tensorflow/serving/predict",
        "classify": "tensorflow/serving/classify",
        "regress": "tensorflow/serving/regress",
    }
    assert answers["serving_default"] == pytest.approx(
        [e.outputs["probability"][0] for e in golden.examples], abs=golden.tolerance
    )
    for way in ("alone", "raw_features", "classify", "regress"):
        assert answers[way] == pytest.approx(answers["serving_default"], abs=golden.tolerance), way
    assert answers["classes"] == [["0", "1"]] * len(golden.examples)
    assert 0 < answers["of_nothing"] < 1  # an example without a single feature is answered
    floor = config.model_gate.metrics["auc"].floor
    assert floor < answers["auc"] < 0.99, "near 1 the label has leaked into the inputs"

    records = tf.data.TFRecordDataset(str(model / WARM_UP)).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in records]
    kinds = ["predict_log", "predict_log", "classify_log", "regress_log"]
    assert [log.WhichOneof("log_type") for log in logs] == kinds * 2
    assert logs[2].classify_log.request.model_spec.name == name


def asked_elsewhere(model: Path, examples: Path, label: str) -> dict:
    positive = json.dumps(load_config(json.loads((model / GOLDEN).read_text())["model"]).data.label.positive)
    command = [sys.executable, str(ASK), str(model), str(examples), label, positive]
    # Away from the project, so that a model which needs its code is found out.
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=examples, env={**os.environ, "PYTHONPATH": ""}, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_model_without_a_signature_that_clients_ask_is_refused_by_its_name(tmp_path):
    module = tf.Module()
    module.answer = tf.function(lambda examples: {"probability": tf.zeros([1, 1])}, [tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path), {"serving_default": module.answer})
    with pytest.raises(ExportError, match="has no signature raw_features: export it as"):
        add_samples(str(tmp_path), "", "own")
