"""The infra validator: what would be released answers in a process of its own, or it is not blessed."""

import errno
import os
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tfx.types import standard_artifacts

from nightly.records.golden import GOLDEN, Golden
from nightly.records.label_config import ClassesLabel
from nightly.records.label_spec import LABEL_SPEC, LabelSpec
from nightly.tfx.components.infra_validator import CleanProcessInfraValidator, ModelNotServable, _link_tree
from nightly.training.answers import ExportError
from nightly.training.samples import WARM_UP
from tests.support.trial_night import write

pytestmark = pytest.mark.slow

ROWS = 40


def example(x: float) -> bytes:
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[x]))
    return tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString()


def save(folder: Path, score, **others) -> None:
    save_outputs(folder, lambda x: {"probability": score(x)}, **others)


def save_outputs(folder: Path, outputs, **others) -> None:
    """Save a model of x. `others`: further signatures of serialized examples, each with its outputs of x."""
    module = tf.Module()
    spec = {"x": tf.io.FixedLenFeature([], tf.float32)}
    module.predict = tf.function(
        lambda examples: outputs(tf.io.parse_example(examples, spec)["x"]),
        input_signature=[tf.TensorSpec([None], tf.string, "examples")],
    )
    module.raw = tf.function(outputs, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    signatures = {"serving_default": module.predict, "raw_features": module.raw}
    for name, outputs_of in others.items():
        function = tf.function(lambda inputs, outputs_of=outputs_of: outputs_of(tf.io.parse_example(inputs, spec)["x"]))
        signatures[name] = function.get_concrete_function(tf.TensorSpec([None], tf.string, "inputs"))
    tf.saved_model.save(module, str(folder / "model/Format-Serving"), signatures=signatures)


def run(folder: Path):
    write(folder / "examples/Split-eval/data.gz", [example(n / ROWS) for n in range(ROWS)])
    examples = standard_artifacts.Examples()
    examples.split_names, examples.uri = '["eval"]', str(folder / "examples")
    model, servable = standard_artifacts.Model(), standard_artifacts.Model()
    model.uri, servable.uri = str(folder / "model"), str(folder / "servable")
    blessing = standard_artifacts.InfraBlessing()
    blessing.uri = str(folder / "blessing")
    CleanProcessInfraValidator.EXECUTOR_SPEC.executor_class().Do(
        {"model": [model], "examples": [examples]},
        {"blessing": [blessing], "servable": [servable]},
        {"model_name": "tiny"},
    )
    return blessing


def warm_up_requests(model: Path) -> set[str]:
    records = tf.data.TFRecordDataset(str(model / WARM_UP)).as_numpy_iterator()
    return {prediction_log_pb2.PredictionLog.FromString(record).WhichOneof("log_type") for record in records}


def scores(x):
    return tf.stack([1 - x, x], axis=1)


def named(x):
    return tf.tile([["a", "b"]], [tf.size(x), 1])


def answers(x):
    return tf.sigmoid(x)[:, tf.newaxis]


def test_a_model_that_answers_is_blessed_with_its_golden_examples_and_warm_up_requests(tmp_path):
    save(tmp_path, answers)
    blessing = run(tmp_path)
    assert blessing.get_int_custom_property("blessed") == 1 and (tmp_path / "blessing/INFRA_BLESSED").exists()
    servable = tmp_path / "servable/Format-Serving"
    assert len(Golden.load(servable / GOLDEN).examples) == 16
    assert warm_up_requests(servable) == {"predict_log"}, "the model has no other signatures"
    assert not (tmp_path / "model/Format-Serving" / GOLDEN).exists()  # the trainer's output stays as it was


def test_the_golden_examples_are_answered_by_classify_and_regress_if_the_model_has_them(tmp_path):
    both = {"classify": lambda x: {"classes": named(x), "scores": scores(x)}, "regress": lambda x: {"outputs": x}}
    save(tmp_path, answers, **both)
    assert run(tmp_path).get_int_custom_property("blessed") == 1
    servable = tmp_path / "servable/Format-Serving"
    golden = Golden.load(servable / GOLDEN)
    assert golden.signatures == ["serving_default", "classify", "regress"]
    assert golden.examples[10].answers == {"classify": pytest.approx([0.75, 0.25]), "regress": pytest.approx([0.25])}
    assert warm_up_requests(servable) == {"predict_log", "classify_log", "regress_log"}


def test_a_signature_of_that_name_which_the_api_cannot_ask_is_left_alone(tmp_path):
    save(tmp_path, answers, classify=lambda x: {"label": named(x)}, regress=lambda x: {"mean": x, "error": x})
    assert run(tmp_path).get_int_custom_property("blessed") == 1
    assert Golden.load(tmp_path / "servable/Format-Serving" / GOLDEN).apis == []
    assert warm_up_requests(tmp_path / "servable/Format-Serving") == {"predict_log"}


def test_a_model_that_fails_only_when_it_classifies_is_not_blessed(tmp_path):
    save(tmp_path, answers, classify=lambda x: {"scores": scores(x) / (x[:, tf.newaxis] - 20 / ROWS)})
    with pytest.raises(ModelNotServable, match=r"output scores of classify is not finite"):
        run(tmp_path)


def test_every_number_that_a_model_answers_is_golden_and_text_is_not(tmp_path):
    def outputs(x):
        return {"probabilities": tf.stack([1 - x, x], axis=1), "class": tf.where(x > 0.5, "b", "a")[:, tf.newaxis]}

    save_outputs(tmp_path, outputs)
    spec = LabelSpec.of(ClassesLabel(column="y"), ["a", "b"])
    (tmp_path / "model/Format-Serving/assets.extra").mkdir()
    spec.save(tmp_path / "model/Format-Serving" / LABEL_SPEC)
    assert run(tmp_path).get_int_custom_property("blessed") == 1
    golden = Golden.load(tmp_path / "servable/Format-Serving" / GOLDEN)
    assert golden.output == "probabilities"
    assert golden.examples[10].outputs == {"probabilities": [pytest.approx(0.75), pytest.approx(0.25)]}


def test_a_model_without_the_output_that_it_is_judged_by_is_refused(tmp_path):
    save_outputs(tmp_path, lambda x: {"score": x})
    with pytest.raises(ExportError, match="has the outputs score, and not 'probability'"):
        run(tmp_path)


def test_a_model_that_needs_the_process_it_was_made_in_is_not_blessed_and_the_error_says_what_it_lacks(tmp_path):
    save(tmp_path, lambda x: tf.ensure_shape(tf.py_function(answers, [x], tf.float32), [None, 1]))
    with pytest.raises(ModelNotServable, match=r"clean process(.|\n)*callback"):
        run(tmp_path)
    assert (tmp_path / "blessing/INFRA_NOT_BLESSED").exists()


def test_a_model_whose_answer_depends_on_the_rows_beside_it_is_not_blessed(tmp_path):
    save(tmp_path, lambda x: answers(x - tf.reduce_mean(x)))
    with pytest.raises(ModelNotServable, match="clean process"):
        run(tmp_path)


def test_on_a_volume_without_hard_links_the_model_is_copied(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    write(tmp_path / "model/data.gz", [example(1)])
    monkeypatch.setattr(os, "link", refuse)
    _link_tree(tmp_path / "model", tmp_path / "servable")
    assert (tmp_path / "servable/data.gz").read_bytes() == (tmp_path / "model/data.gz").read_bytes()
