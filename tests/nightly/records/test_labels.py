"""The record of a night's labels has every side, and stays small."""

import datetime as dt

import pytest

from nightly.records.baseline import Baseline, Control
from nightly.records.label_config import BinaryLabel, ClassesLabel, NumberLabel
from nightly.records.label_spec import LabelSummary
from nightly.records.labels import CLASSES, Labels

AT = dt.datetime(2016, 3, 1, tzinfo=dt.UTC)
BASELINE = Baseline(model="taxi", run_id="r", as_of=AT, snapshot_id="cd", accepted_at=AT)
CONTROL = Control(name="last_accepted", factor=1, folder="f", baseline=BASELINE)


def test_a_binary_label_has_its_share_of_positives_on_each_side(tmp_path):
    label = BinaryLabel(column="tip", positive=["1"])
    now, before = (LabelSummary.of(label, counts, []) for counts in ({"1": 25, "0": 75, "": 10}, {"1": 20, "0": 80}))
    record = Labels.load(Labels.of(label, 110, now, [(CONTROL, before)]).save(tmp_path / "labels.json"))
    assert (record.label, record.rows, record.now.rows, record.now.share("positive")) == (label, 110, 100, 0.25)
    [side] = record.controls
    assert (side.name, side.title) == ("last_accepted", "the last accepted snapshot (2016-03-01)")
    assert record.now.change(side.labels)[0] == pytest.approx(0.05)


def test_a_control_whose_labels_are_not_known_is_left_out():
    now, before, none = (LabelSummary(rows=rows, quantiles=[1, 2, rows]) for rows in (100, 90, 0))
    sides = [(CONTROL, none), (CONTROL, None), (CONTROL, before)]
    record = Labels.of(NumberLabel(column="fare"), 110, now, sides)
    assert [side.labels.quantiles for side in record.controls] == [[1, 2, 90]]


def test_of_many_classes_the_frequent_ones_are_recorded_and_their_shares_stay_right():
    many = {f"class {n:03}": 1000 - n for n in range(3 * CLASSES)}
    now, before = (LabelSummary.of_counts(counts) for counts in (many, {"gone": 7, **many}))
    record = Labels.of(ClassesLabel(column="product"), now.rows, now, [(CONTROL, before)])
    assert (len(record.now.counts), record.classes, record.controls[0].classes) == (CLASSES, len(many), len(many) + 1)
    assert record.now.share("class 000") == 1000 / sum(many.values())
    assert "gone" not in record.controls[0].labels.counts
