"""Labels and answers of models with different classes are on one scale, and a model says what its output means."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from nightly.evaluation.errors import EvaluationError
from nightly.evaluation.labels import aligned, read_labels
from nightly.evaluation.scoring import RAW, Scorer, _ids
from nightly.records.label_config import BinaryLabel, ClassesLabel, NumberLabel
from nightly.records.label_spec import LABEL_SPEC, OTHER, LabelSpec

TIP = BinaryLabel(column="tip", positive=["Yes"])
PAID = ClassesLabel(column="paid")
FARE = NumberLabel(column="fare", transform="log1p")


def read(values, label, classes=()):
    labels, rows = read_labels(pa.array(values), label, list(classes))
    return labels.tolist(), rows.tolist()


def test_a_blank_label_is_none():
    assert read(["Yes", None, "No"], TIP) == ([1, 0], [True, False, True])
    assert read(["Cash", None], PAID, ["Card", "Cash"]) == ([1], [True, False])
    assert read([1.5, None, float("nan"), float("inf")], FARE) == ([1.5], [True, False, False, False])
    assert read([2**53 + 1, 2], FARE) == ([2.0**53, 2.0], [True, True]), "the nearest number that a float has"


def test_a_label_outside_the_classes_is_other_and_without_that_none():
    assert read(["Cash", "Coin"], PAID, ["Cash", OTHER]) == ([0, 1], [True, True])
    assert read(["Cash", "Coin"], PAID, ["Cash", "Card"]) == ([0], [True, False])


def test_whole_numbers_are_named_by_their_text():
    assert read([3, 11, None], PAID, ["11", "3"]) == ([1, 0], [True, True, False])


def test_probabilities_are_matched_by_the_names_of_classes():
    scores = np.array([[0.1, 0.2, 0.7]], np.float32)
    assert aligned(scores, ["a", "b", "c"], ["a", "b", "c"]) is scores
    assert aligned(scores, ["a", "b", "c"], ["c", "a", "b"]).tolist() == [pytest.approx([0.7, 0.1, 0.2])]


def test_what_only_production_knows_counts_as_other():
    scores = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    actual = aligned(scores, ["a", "gone", "lost", OTHER], ["new", "a", OTHER])
    assert actual.tolist() == [pytest.approx([0, 0.1, 0.9])]


def test_without_other_it_is_wrong_and_the_rest_is_no_likelier():
    actual = aligned(np.array([[0.3, 0.2, 0.5]], np.float32), ["a", "b", "gone"], ["a", "b"])
    assert actual.tolist() == [pytest.approx([0.3, 0.2, 0.5])]
    assert actual.argmax() == 2  # no label has it


def test_a_model_without_label_json_is_binary_with_the_configs_positive(tmp_path):
    assert LabelSpec.of_model(tmp_path, TIP) == LabelSpec.of(TIP)
    assert LabelSpec.of_model(tmp_path, FARE).kind == "binary"
    spec = LabelSpec.of(PAID, ["a", "b"]).model_copy(update={"constant": [0.3, 0.7]})
    spec.save(tmp_path / LABEL_SPEC)
    assert LabelSpec.of_model(tmp_path, TIP) == spec


def saved_model(folder, outputs):
    """A SavedModel that answers each serialized example by its length."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(examples):
        length = tf.cast(tf.strings.length(examples), tf.float32)[:, tf.newaxis]
        return {name: length * tf.constant([factors]) for name, factors in outputs.items()}

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return str(folder)


def rows(**columns):
    return pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in columns.items()})


def test_each_kind_is_scored_by_its_own_output(tmp_path):
    models = {
        "candidate": saved_model(tmp_path / "a", {"probabilities": [0.2, 0.1], "more": [9.0]}),
        "production": saved_model(tmp_path / "b", {"probabilities": [0.1, 0.3]}),
    }
    specs = {"candidate": LabelSpec.of(PAID, ["x", "y"]), "production": LabelSpec.of(PAID, ["y", "x"])}
    scorer = Scorer(models, specs, PAID, ["shop"], "weight", ["x", "y"])
    batch = rows(paid=[["x"], [], ["y"]], weight=[[2.0], [1.0], None], shop=[["a"], ["b"], []], **{RAW: [[b"1"]] * 3})
    (scored,) = scorer.score(batch)
    assert scored.labels.tolist() == [0, 1]
    assert scored.scores["candidate"].tolist() == [pytest.approx([0.2, 0.1])] * 2
    assert scored.scores["production"].tolist() == [pytest.approx([0.3, 0.1])] * 2
    assert scored.weights.tolist() == [2, 0]  # a row without a weight weighs nothing
    assert scored.columns["shop"].to_pylist() == ["a", "(missing)"]


def test_a_number_is_scored_on_its_own_scale(tmp_path):
    model = saved_model(tmp_path / "a", {"prediction": [2.0]})
    scorer = Scorer({"candidate": model}, {"candidate": LabelSpec.of(FARE)}, FARE)
    (scored,) = scorer.score(rows(fare=[[7.5], [3.0]], **{RAW: [[b"1"], [b"123"]]}))
    assert (scored.labels.tolist(), scored.scores["candidate"].tolist()) == ([7.5, 3.0], [2.0, 6.0])


def test_an_only_output_of_another_name_is_judged_and_of_several_none(tmp_path):
    specs = {"candidate": LabelSpec.of(TIP)}
    batch = rows(tip=[["Yes"]], **{RAW: [[b"1"]]})
    (scored,) = Scorer({"candidate": saved_model(tmp_path / "a", {"p": [0.5]})}, specs, TIP).score(batch)
    assert scored.scores["candidate"].tolist() == [0.5]
    several = Scorer({"candidate": saved_model(tmp_path / "b", {"p": [0.5], "q": [0.5]})}, specs, TIP)
    with pytest.raises(
        EvaluationError, match="must have the output 'probability' to be judged by, or only one; it has p, q"
    ):
        list(several.score(batch))


def test_an_example_without_an_id_is_named_by_its_first_columns_also_if_these_are_bytes():
    columns = {RAW: [b""], "image": [[b"\x89PNG"]], "city": [[b"Ulm"]], "note": pa.array([[]], pa.list_(pa.binary()))}
    (text,) = _ids(pa.RecordBatch.from_pydict(columns), []).to_pylist()
    assert text == "image = 4 bytes, city = Ulm, note = (missing)"
    mixed = pa.RecordBatch.from_pydict({"city": [[b"Ulm"], [b"\xff\xfe"]]})
    assert _ids(mixed, []).to_pylist() == ["city = Ulm", "city = 2 bytes"]


def test_a_weight_that_no_example_has_is_named_by_its_key(tmp_path):
    models = {"candidate": saved_model(tmp_path / "a", {"p": [0.5]})}
    scorer = Scorer(models, {"candidate": LabelSpec.of(TIP)}, TIP, [], "weight")
    with pytest.raises(EvaluationError, match=r"no column 'weight', which data\.weight_column names"):
        list(scorer.score(rows(tip=[["Yes"]], **{RAW: [[b"1"]]})))
