"""The transformed label of each kind, and the weight: the same in this process and in TFX's Transform on Beam."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from nightly.records.label_config import BinaryLabel, ClassesLabel, NumberLabel
from nightly.records.label_spec import OTHER
from nightly.tfx.components.transform import BeamTransformExecutor
from nightly.training.transforming import dense, learned_classes, preprocessing_fn, transformed_label
from nightly.transform import engine
from tests.nightly.transform.test_engine import in_process, inputs_of, run, taxi_rows, transformed

HERE = "tests.nightly.transform.test_labels"
LISTED = ["Cash", "Credit Card"]
RARE = 30
NUMBER, LOGARITHM = NumberLabel(column="fare"), NumberLabel(column="fare", transform="log1p")
LEARNED = ClassesLabel(column="payment_type", classes="learned", min_class_rows=RARE)


def each_kind(inputs, custom_config):
    """A label of each kind, of real trips."""
    assert "big_tipper" in Path(custom_config["schema"]).read_text()
    payment, hour, fare = (inputs[name] for name in ("payment_type", "trip_start_hour", "fare"))
    listed = ClassesLabel(column="payment_type")
    return {
        "binary": transformed_label(inputs["big_tipper"], BinaryLabel(column="big_tipper", positive=["1"])),
        "listed": transformed_label(payment, listed, LISTED),
        "listed_numbers": transformed_label(hour, listed, [str(number) for number in range(12)]),
        "learned": transformed_label(payment, LEARNED),
        "number": transformed_label(fare, NUMBER),
        "logarithm": transformed_label(fare, LOGARITHM),
        "whole_number": transformed_label(hour, NUMBER),
        "z": tft.scale_to_z_score(dense(inputs["trip_miles"], 0.0)),
    }


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The rows that are analyzed, and what this process and TFX make of them: two folders."""
    folder = tmp_path_factory.mktemp("labels")
    rows = taxi_rows(1200)
    rows[0]["payment_type"] = rows[1]["fare"] = rows[2]["trip_start_hour"] = None
    for row in rows[10 : 10 + RARE]:
        row["payment_type"] = OTHER  # a value that has the name of the shared class
    inputs = inputs_of("taxi", rows, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "BATCH_ROWS", 300)
        ours = in_process(inputs, folder / "ours", f"{HERE}.each_kind", "taxi")
    context = BeamTransformExecutor.Context(beam_pipeline_args=[], tmp_dir=str(folder / "tmp"), unique_id="1")
    theirs = run(
        BeamTransformExecutor(context), inputs, folder / "theirs", preprocessing_fn=f"{HERE}.each_kind",
        custom_config=json.dumps({"model": "taxi"}), disable_statistics=1,
    )  # fmt: skip
    return rows[:800], ours, theirs


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "eval"])
def test_labels_are_those_of_tfx_transform(outputs, split):
    _, *folders = outputs
    ours, theirs = (transformed(folder, split) for folder in folders)
    assert ours.keys() == theirs.keys()
    for name, column in ours.items():
        assert column.shape[1:] == (1,), name
        np.testing.assert_allclose(column, theirs[name], rtol=1e-6, err_msg=name)
    one, other = (tft.TFTransformOutput(str(folder / "graph")) for folder in folders)
    assert learned_classes(one) == learned_classes(other)


@pytest.mark.slow
def test_a_label_is_the_index_of_its_class_or_its_number_or_not_recorded(outputs):
    rows, ours, _ = outputs
    columns = {name: column[:, 0].tolist() for name, column in transformed(ours, "train").items()}
    payments = [row["payment_type"] for row in rows]
    assert columns["listed"] == [LISTED.index(name) if name in LISTED else -1 for name in payments]
    hours = [row["trip_start_hour"] for row in rows]
    assert columns["listed_numbers"] == [-1 if hour is None or hour >= 12 else int(hour) for hour in hours]
    whole = [math.nan if hour is None else hour for hour in hours]
    np.testing.assert_array_equal(columns["whole_number"], whole)
    fares = np.array([math.nan if row["fare"] is None else row["fare"] for row in rows])
    np.testing.assert_allclose(columns["number"], fares, rtol=1e-6)
    np.testing.assert_allclose(columns["logarithm"], np.log1p(fares), rtol=1e-6)
    assert math.isnan(columns["number"][1])
    assert columns["binary"] == [int(row["big_tipper"]) for row in rows]


@pytest.mark.slow
def test_learned_classes_are_the_frequent_values_and_the_others_share_one(outputs):
    rows, ours, _ = outputs
    payments = [row["payment_type"] for row in rows]
    counts = {name: payments.count(name) for name in set(payments) - {None, OTHER}}
    frequent = sorted((name for name in counts if counts[name] >= RARE), key=counts.get, reverse=True)
    classes = learned_classes(tft.TFTransformOutput(str(ours / "graph")))
    assert classes == [*frequent, OTHER]
    indices = [-1 if name is None else classes.index(name if name in frequent else OTHER) for name in payments]
    assert transformed(ours, "train")["learned"][:, 0].tolist() == indices
    assert {-1, classes.index(OTHER)} < set(indices), "there are rare values, and missing ones"


def test_a_label_that_the_schema_lacks_is_named_with_its_key():
    column = tf.sparse.from_dense([[1.0]])
    with pytest.raises(ValueError, match=r"the label 'big_tipper' is not in the schema .* change data\.label\.column"):
        preprocessing_fn({"fare": column}, {"model": "taxi"})
