"""Whole comparisons of classes and numbers: SavedModels on a real server, each call of the client over REST and gRPC,
its log, a feedback file, and the command that tells how it stands."""

import base64
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from nightly.canary import decide as module
from nightly.cli.releases import main
from nightly.models import load_config
from nightly.records.config import ModelConfig
from nightly.records.golden import GOLDEN, Golden, GoldenExample
from nightly.records.label_spec import LABEL_SPEC, LabelSpec
from nightly_client import Canary, Client, PredictionLog, example

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SHARE, CALLERS, EACH = 0.3, 400, 5
STRINGS = tf.TensorSpec([None], tf.string)
FEATURES = {
    "x": tf.io.FixedLenFeature([1], tf.float32)
}  # the label is 10 x; its class is low, mid or high by x's floor


class OneOfThree(tf.Module):
    """Gives the right class, of `classes` in any order, a probability of `sure`."""

    def __init__(self, classes: list[str], sure: float) -> None:
        super().__init__()
        self.classes = classes
        rows = [[sure if name == right else (1 - sure) / 2 for name in classes] for right in ("low", "mid", "high")]
        self._rows = tf.Variable(rows)

    def scores(self, examples: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._rows, tf.cast(tf.io.parse_example(examples, FEATURES)["x"][:, 0], tf.int32))

    @tf.function(input_signature=[STRINGS])
    def predict(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = self.scores(examples)
        likeliest = tf.gather(tf.constant(self.classes), tf.argmax(scores, axis=1))
        return {"probabilities": scores, "class": likeliest[:, tf.newaxis]}

    @tf.function(input_signature=[STRINGS])
    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = self.scores(inputs)
        return {"classes": tf.tile(tf.constant([self.classes]), [tf.shape(scores)[0], 1]), "scores": scores}


class Line(tf.Module):
    """Predicts 10 x + `error`."""

    def __init__(self, error: float) -> None:
        super().__init__()
        self._error = tf.Variable(error)

    @tf.function(input_signature=[STRINGS])
    def predict(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"prediction": 10 * tf.io.parse_example(examples, FEATURES)["x"] + self._error}

    @tf.function(input_signature=[STRINGS])
    def regress(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": self.predict(inputs)["prediction"][:, 0]}


def export(folder: Path, model: tf.Module, spec: LabelSpec) -> Path:
    name = "classify" if spec.kind == "classes" else "regress"
    signatures = {"serving_default": model.predict, name: getattr(model, name)}
    tf.saved_model.save(
        model, str(folder), signatures={key: f.get_concrete_function() for key, f in signatures.items()}
    )
    request = example({"x": 1.5}).SerializeToString()
    outputs = {spec.output: model.predict(tf.constant([request]))[spec.output][0].numpy().tolist()}
    encoded = base64.b64encode(request).decode()
    golden = [GoldenExample(example_base64=encoded, features={"x": 1.5}, outputs=outputs)]
    Golden(model="any", output=spec.output, examples=golden).save(folder / GOLDEN)
    spec.save(folder / LABEL_SPEC)
    return folder


@pytest.fixture
def began(server, tmp_path, monkeypatch):
    """A function that releases a first version and a canary beside it."""

    def config(name: str) -> ModelConfig:
        taxi = load_config("taxi").model_dump()
        taxi["release"]["canary"] = {"share": SHARE, "margin": 0.02, "labels": ["feedback"]}
        return ModelConfig.parse(taxi, where="test").model_copy(update={"name": name})

    monkeypatch.setattr(module, "load_config", config)

    def begin(name: str, stable: tuple[tf.Module, LabelSpec], canary: tuple[tf.Module, LabelSpec]) -> None:
        server.release(name, export(tmp_path / "stable", *stable), "run-1")
        assert server.release(name, export(tmp_path / "canary", *canary), "run-2", canary_share=SHARE).state == "canary"

    return begin


def traffic(server, name: str, method: str, label) -> None:
    """Each caller asks by one of two methods and one of two protocols; the labels come as a file."""
    random = np.random.default_rng(7)
    lines = ["id,label"]
    canary = Canary(SHARE, "test")
    log = PredictionLog(server.paths.predictions / name, format="parquet", key="sixteen bytes and more")
    addresses = (server.grpc.address, server.rest.address)
    clients = [Client(address, canary=canary, log=log, timeout=60) for address in addresses]
    for caller in range(CALLERS):
        xs = random.uniform(0, 3, EACH).tolist()
        ids = [f"{caller}:{number}" for number in range(EACH)]
        client, how = clients[caller % 2], {"caller": f"user-{caller}", "ids": ids}
        if caller % 4 < 2:
            client.predict(name, [example({"x": x}).SerializeToString() for x in xs], **how)
        else:
            getattr(client, method)(name, [{"x": x} for x in xs], signature=method, **how)
        lines += [f"{each},{label(random, x)}" for each, x in zip(ids, xs, strict=True)]
    for client in clients:
        client.close()
    log.close()
    file = server.paths.feedback / name / "labels.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines))


def status(name: str, capsys) -> str:
    capsys.readouterr()
    assert main(["canary", name]) == 0
    return capsys.readouterr().out


def test_a_canary_of_classes_that_is_less_sure_is_to_be_stopped(server, began, capsys):
    def spec(*classes: str) -> LabelSpec:
        return LabelSpec(kind="classes", column="size", output="probabilities", classes=list(classes))

    stable, canary = ["low", "mid", "high"], ["high", "low", "mid"]
    began("sizes", (OneOfThree(stable, 0.8), spec(*stable)), (OneOfThree(canary, 0.4), spec(*canary)))
    traffic(server, "sizes", "classify", lambda random, x: ("low", "mid", "high")[int(x)])

    shown = status("sizes", capsys)

    assert "TO BE STOPPED" in shown and "surely worse" in shown and "left out" not in shown
    assert f"{CALLERS * EACH:,} from feedback" in shown
    loss = next(line.split() for line in shown.splitlines() if line.startswith("mean "))
    assert loss[:-2] == ["mean", "Brier", "score", "/", "2"]
    assert [float(value) for value in loss[-2:]] == pytest.approx(
        [(0.6**2 + 2 * 0.3**2) / 2, (0.2**2 + 2 * 0.1**2) / 2], abs=2e-5
    )


def test_a_canary_of_a_number_that_is_nearer_is_to_be_promoted_and_no_word_is_of_probabilities(server, began, capsys):
    quantiles = np.linspace(0, 30, 101).tolist()
    spec = LabelSpec(kind="number", column="fare", output="prediction", quantiles=quantiles)
    began("fares", (Line(6.0), spec), (Line(0.0), spec))
    traffic(server, "fares", "regress", lambda random, x: 10 * x + random.normal())

    shown = status("fares", capsys)

    assert "TO BE PROMOTED" in shown and "surely better" in shown and "left out" not in shown
    loss = next(line.split() for line in shown.splitlines() if line.startswith("mean "))
    assert loss[:-2] == ["mean", "rank", "error"]
    assert [float(value) for value in loss[-2:]] == pytest.approx([0.026, 0.18], abs=0.01)
    assert "robabilit" not in shown and "Brier" not in shown

    file = server.paths.feedback / "fares" / "more.csv"
    file.write_text("id,label\n0:0,twelve\n")
    assert main(["canary", "fares"]) == 2
    assert f"{file}, row 1: the label 'twelve' of the id '0:0' is not a number" in capsys.readouterr().err
