"""The evaluator writes one record for each kind of label, beside a production model that may know other classes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tfx.types import standard_artifacts

from nightly.records.evaluation import Evaluation
from nightly.records.label_config import BinaryLabel, ClassesLabel, NumberLabel
from nightly.records.label_spec import LABEL_SPEC, OTHER, LabelSpec
from nightly.tfx.components.evaluator import SideBySideEvaluator

ROWS = 400
LABELS = {
    "binary": BinaryLabel(column="tip", positive=["Yes"]),
    "classes": ClassesLabel(column="paid", classes="learned"),
    "number": NumberLabel(column="fare", transform="log1p"),
}


def artifact(kind, uri: Path, splits=None):
    actual = kind()
    actual.uri = str(uri)
    if splits:
        actual.split_names = json.dumps(splits)
    return actual


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """Trips whose labels follow their miles; a tenth has no label, and each has a weight."""
    folder, random = tmp_path_factory.mktemp("examples"), np.random.default_rng(0)
    (folder / "Split-eval").mkdir()
    with tf.io.TFRecordWriter(str(folder / "Split-eval/rows")) as writer:
        for row in range(ROWS):
            miles = float(random.gamma(2, 2))
            noise = random.normal()
            values = {
                "miles": miles,
                "tip": b"Yes" if miles + noise > 4 else b"No",
                "paid": b"Card" if miles + noise > 4 else b"Cash" if noise > -1.5 else b"Coin",
                "fare": float(np.exp(noise / 10) * (3 + 2 * miles)),
                "shop": b"north" if row % 3 else b"south",
                "weight": float(row % 4),
            }
            if row % 10 == 0:
                values = {name: value for name, value in values.items() if name not in ("tip", "paid", "fare")}
            example = tf.train.Example()
            for name, value in values.items():
                feature = example.features.feature[name]
                (feature.bytes_list if isinstance(value, bytes) else feature.float_list).value.append(value)
            writer.write(example.SerializeToString())
    return artifact(standard_artifacts.Examples, folder, ["eval"])


def model(folder: Path, spec: LabelSpec | None, answer, production=False):
    """A SavedModel whose output is `answer` of the miles [rows, 1]."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(examples):
        miles = tf.io.parse_example(examples, {"miles": tf.io.FixedLenFeature([1], tf.float32)})["miles"]
        return {spec.output if spec else "probability": answer(miles)}

    module = tf.Module()
    module.serve = serve
    path = folder if production else folder / "Format-Serving"
    tf.saved_model.save(module, str(path), signatures={"serving_default": serve})
    if spec:
        spec.save(path / LABEL_SPEC)
    return artifact(standard_artifacts.Model, folder)


def evaluated(kind, examples, folder, candidate, production=None, metrics=(), **parameters) -> Evaluation:
    inputs = {"examples": [examples], "model": [candidate]} | ({"baseline_model": [production]} if production else {})
    output = artifact(standard_artifacts.ModelEvaluation, folder)
    given = {
        "label": LABELS[kind].model_dump_json(),
        "metrics": json.dumps(list(metrics)),
        "slices": '["shop"]',
        "production_version": 17 if production else 0,
    }
    SideBySideEvaluator.EXECUTOR_SPEC.executor_class().Do(inputs, {"evaluation": [output]}, given | parameters)
    return Evaluation.load(folder / "evaluation.json")


def spec(kind, classes=(), constant=()):
    return LabelSpec.of(LABELS[kind], classes).model_copy(update={"constant": list(constant)})


def steep(miles):
    return tf.sigmoid(miles - 4)


def test_a_binary_model_of_before_is_evaluated_without_label_json(examples, tmp_path):
    candidate = model(tmp_path / "a", None, steep)
    production = model(tmp_path / "b", None, lambda miles: tf.sigmoid(miles / 10), production=True)
    actual = evaluated("binary", examples, tmp_path / "out", candidate, production, ["auc", "binary_crossentropy"])
    assert actual.examples == {"": 360, "shop=north": 240, "shop=south": 120}
    assert actual.candidate.keys() == actual.production.keys() == actual.differences.keys() == actual.examples.keys()
    assert actual.candidate[""].keys() == {"auc", "binary_crossentropy", "mean_label"}
    difference = actual.differences[""]["binary_crossentropy"]
    assert difference.value == pytest.approx(
        actual.candidate[""]["binary_crossentropy"] - actual.production[""]["binary_crossentropy"]
    )
    assert 0 < 3 * difference.error < -difference.value
    assert actual.better_than_constant is None
    assert sum(part.rows for part in actual.charts["production"].calibration) == 360
    assert len(tfma.load_eval_result(str(tmp_path / "out"), model_name="candidate").slicing_metrics) == 3


def test_classes_are_those_of_the_candidate_and_production_is_aligned_by_name(examples, tmp_path):
    def probabilities(miles):
        card = tf.sigmoid(miles - 4)
        return tf.concat([card, (1 - card) * 0.9, (1 - card) * 0.1], axis=1)

    candidate = model(tmp_path / "a", spec("classes", ["Card", "Cash", OTHER], [0.5, 0.4, 0.1]), probabilities)
    names = ["Cash", "Coin", "Card"]  # the candidate has no class for coins
    production = model(
        tmp_path / "b",
        spec("classes", names),
        lambda miles: tf.gather(probabilities(miles), [1, 2, 0], axis=1),
        production=True,
    )
    actual = evaluated("classes", examples, tmp_path / "out", candidate, production, ["accuracy", "macro_auc"])
    assert actual.class_examples.keys() == {"Card", "Cash", OTHER} and sum(actual.class_examples.values()) == 360
    assert actual.production[""] == pytest.approx(actual.candidate[""])  # the same answers by other names
    assert {f"{metric}:{name}" for metric in ("recall", "f1_score") for name in ("Card", "Cash", OTHER)} <= (
        actual.candidate[""].keys()
    )
    assert actual.better_than_constant.value > 3 * actual.better_than_constant.error
    assert actual.constant_loss == "Brier score"
    assert np.sum(actual.charts["candidate"].confusion) == 360


def test_a_number_is_evaluated_on_its_own_scale_with_weights(examples, tmp_path):
    candidate = model(tmp_path / "a", spec("number", constant=[2.3]), lambda miles: 3 + 2 * miles)
    production = model(tmp_path / "b", spec("number"), lambda miles: 6 + 1.5 * miles, production=True)
    metrics = ["mean_absolute_error", "r_squared", "weighted_example_count"]
    plain = evaluated("number", examples, tmp_path / "plain", candidate, production, metrics)
    weighted = evaluated(
        "number", examples, tmp_path / "weighted", candidate, production, metrics, weight_column="weight"
    )
    assert plain.candidate[""]["r_squared"] > 0.9
    assert plain.candidate[""]["mean_absolute_error"] < plain.production[""]["mean_absolute_error"]
    assert plain.better_than_constant.value > 0
    assert plain.constant_loss == "mean squared error of log(1 + label)"
    assert plain.candidate[""]["weighted_example_count"] == 360
    weights = [row % 4 for row in range(ROWS) if row % 10]
    assert weighted.candidate[""]["weighted_example_count"] == sum(weights)
    assert weighted.examples == plain.examples
    assert weighted.candidate[""]["mean_absolute_error"] != plain.candidate[""]["mean_absolute_error"]
    assert sum(plain.charts["candidate"].residuals.rows) == 360
    assert sum(weighted.charts["candidate"].residuals.rows) == sum(weights)


def test_a_production_model_of_another_kind_is_not_measured_and_that_is_recorded(examples, tmp_path):
    candidate = model(tmp_path / "a", spec("number"), lambda miles: 3 + 2 * miles)
    production = model(tmp_path / "b", None, steep, production=True)
    actual = evaluated("number", examples, tmp_path / "out", candidate, production, ["mean_bias"])
    assert actual.production is None and actual.production_version == 17 and not actual.differences
    assert actual.unmeasured == (
        "version 17 in production predicts a label of kind 'binary', and this model one of kind 'number'"
    )


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("number", {"column": "tips"}, "predicts the column 'tips', and this model the column 'fare'"),
        ("binary", {"positive": ["No"]}, "predicts whether 'tip' is 'No', and this model whether it is 'Yes'"),
    ],
)
def test_a_production_model_of_another_label_of_the_same_kind_is_not_measured(examples, tmp_path, kind, change, said):
    candidate = model(tmp_path / "a", spec(kind), steep)
    production = model(tmp_path / "b", spec(kind).model_copy(update=change), steep, production=True)
    actual = evaluated(kind, examples, tmp_path / "out", candidate, production, ["mean_squared_error"])
    assert actual.production is None and not actual.differences
    assert actual.unmeasured == f"version 17 in production {said}"


def test_a_production_model_that_may_have_seen_the_examples_is_not_measured(examples, tmp_path):
    candidate = model(tmp_path / "a", spec("number"), steep)
    production = model(tmp_path / "b", spec("number"), steep, production=True)
    actual = evaluated("number", examples, tmp_path / "out", candidate, production, ["mean_bias"], unmeasured="why")
    assert actual.production is None and actual.production_version == 17 and actual.unmeasured == "why"


def overflowing(miles):
    """A log1p model's answers, one of which is infinite: the exponential of 150 is beyond float32."""
    return tf.math.expm1(tf.where(tf.equal(miles, tf.reduce_max(miles)), 150.0, tf.math.log1p(3 + 2 * miles)))


def test_a_production_model_with_an_infinite_answer_is_not_measured_and_the_new_one_is(examples, tmp_path):
    candidate = model(tmp_path / "a", spec("number", constant=[2.3]), lambda miles: 3 + 2 * miles)
    production = model(tmp_path / "b", spec("number"), overflowing, production=True)
    metrics = ["mean_absolute_error"]
    actual = evaluated(
        "number", examples, tmp_path / "out", candidate, production, metrics, id_columns='["shop", "fare"]'
    )
    assert actual.production is None and actual.production_version == 17 and not actual.differences
    assert re.fullmatch(
        r"version 17 in production answers 1 of 360 examples with NaN or an infinite number, such as that with "
        r"shop = (north|south), fare = \d+\.\d+",
        actual.unmeasured,
    )
    alone = evaluated("number", examples, tmp_path / "alone", candidate, metrics=metrics)
    assert actual.candidate == alone.candidate and actual.better_than_constant == alone.better_than_constant
    assert actual.not_finite is None


def test_a_new_model_with_an_infinite_answer_has_no_metrics_and_the_example_is_named(examples, tmp_path):
    candidate = model(tmp_path / "a", spec("number", constant=[2.3]), overflowing)
    production = model(tmp_path / "b", spec("number"), lambda miles: 3 + 2 * miles, production=True)
    actual = evaluated("number", examples, tmp_path / "out", candidate, production, ["mean_absolute_error"])
    assert actual.candidate == {"": {}, "shop=north": {}, "shop=south": {}}
    assert actual.not_finite.examples == 1 and " = " in actual.not_finite.first
    assert actual.production[""]["mean_absolute_error"] < 2 and not actual.unmeasured


def test_a_new_model_that_does_not_say_what_it_predicts_is_refused(examples, tmp_path):
    with pytest.raises(
        ValueError, match=r"data.label.kind is 'number', and the model predicts a label of kind 'binary'"
    ):
        evaluated("number", examples, tmp_path / "out", model(tmp_path / "a", None, steep))
    one = spec("classes", ["Card"])
    with pytest.raises(ValueError, match="names fewer than two classes"):
        evaluated("classes", examples, tmp_path / "out", model(tmp_path / "b", one, steep))


@pytest.mark.slow
def test_on_beam_the_record_is_the_same(examples, tmp_path):
    candidate = model(tmp_path / "a", spec("number", constant=[2.3]), lambda miles: 3 + 2 * miles)
    production = model(tmp_path / "b", spec("number"), lambda miles: 6 + 1.5 * miles, production=True)
    metrics = ["mean_absolute_error", "r_squared"]
    here, there = (
        evaluated("number", examples, tmp_path / name, candidate, production, metrics, beam_args=args)
        for name, args in (("here", ""), ("there", "[]"))
    )
    for key in here.examples:
        assert there.candidate[key] == pytest.approx(here.candidate[key], abs=1e-6)
        for metric, difference in here.differences[key].items():
            assert there.differences[key][metric].error == pytest.approx(difference.error, rel=1e-6)
    assert there.better_than_constant.error == pytest.approx(here.better_than_constant.error, rel=1e-6)
