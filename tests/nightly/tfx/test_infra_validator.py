"""The infra validator: what would be released answers in a process of its own, or it is not blessed."""

from pathlib import Path

import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from nightly.records.golden import GOLDEN, Golden
from nightly.tfx.components.infra_validator import CleanProcessInfraValidator, ModelNotServable
from nightly.training.samples import WARM_UP
from tests.support.trial_night import write

ROWS = 40


def example(x: float) -> bytes:
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[x]))
    return tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString()


def save(folder: Path, score) -> None:
    module = tf.Module()
    spec = {"x": tf.io.FixedLenFeature([], tf.float32)}
    module.predict = tf.function(
        lambda examples: {"probability": score(tf.io.parse_example(examples, spec)["x"])},
        input_signature=[tf.TensorSpec([None], tf.string, "examples")],
    )
    module.raw = tf.function(
        lambda x: {"probability": score(x)}, input_signature=[tf.TensorSpec([None], tf.float32, "x")]
    )
    signatures = {"serving_default": module.predict, "raw_features": module.raw}
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


def answers(x):
    return tf.sigmoid(x)[:, tf.newaxis]


def test_a_model_that_answers_is_blessed_with_its_golden_examples_and_warm_up_requests(tmp_path):
    save(tmp_path, answers)
    blessing = run(tmp_path)
    assert blessing.get_int_custom_property("blessed") == 1 and (tmp_path / "blessing/INFRA_BLESSED").exists()
    servable = tmp_path / "servable/Format-Serving"
    assert len(Golden.load(servable / GOLDEN).examples) == 16 and (servable / WARM_UP).stat().st_size > 0
    assert not (tmp_path / "model/Format-Serving" / GOLDEN).exists()  # the trainer's output stays as it was


def test_a_model_that_needs_the_process_it_was_made_in_is_not_blessed_and_the_error_says_what_it_lacks(tmp_path):
    save(tmp_path, lambda x: tf.ensure_shape(tf.py_function(answers, [x], tf.float32), [None, 1]))
    with pytest.raises(ModelNotServable, match=r"clean process(.|\n)*callback"):
        run(tmp_path)
    assert (tmp_path / "blessing/INFRA_NOT_BLESSED").exists()


def test_a_model_whose_answer_depends_on_the_rows_beside_it_is_not_blessed(tmp_path):
    save(tmp_path, lambda x: answers(x - tf.reduce_mean(x)))
    with pytest.raises(ModelNotServable, match="clean process"):
        run(tmp_path)
