"""The record of a night's labels has every side, and stays small."""

import datetime as dt

import pytest

from nightly.records.baseline import Baseline, Control
from nightly.records.label_config import BinaryLabel, ClassesLabel, NumberLabel
from nightly.records.labels import CLASSES, Labels
from nightly.records.snapshot import SnapshotManifest

AT = dt.datetime(2016, 3, 1, tzinfo=dt.UTC)


def manifest(counts, quantiles=()):
    return SnapshotManifest(
        snapshot_id="ab", model="taxi", rows=110, window_start=AT, window_end=AT, first_row=None, last_row=None,
        columns={}, schema_fingerprint="f", label_counts=counts, label_quantiles=list(quantiles), files=[], source=[],
        source_sha256=[], code_version="abc", created_at=AT,
    )  # fmt: skip


def control(counts, quantiles=()):
    baseline = Baseline(
        model="taxi", run_id="r", as_of=AT, snapshot_id="cd", accepted_at=AT, label_counts=counts,
        label_quantiles=list(quantiles),
    )  # fmt: skip
    return Control(name="last_accepted", factor=1, folder="f", baseline=baseline)


def test_a_binary_label_has_its_share_of_positives_on_each_side(tmp_path):
    label = BinaryLabel(column="tip", positive=["1"])
    record = Labels.of(label, manifest({"1": 25, "0": 75, "": 10}), [control({"1": 20, "0": 80})])
    record = Labels.load(record.save(tmp_path / "labels.json"))
    assert (record.label, record.rows, record.now.rows, record.now.share("positive")) == (label, 110, 100, 0.25)
    [before] = record.controls
    assert before.title == "the last accepted snapshot (2016-03-01)"
    assert record.now.change(before.labels)[0] == pytest.approx(0.05)


def test_a_number_has_its_quantiles_and_a_control_without_labels_is_left_out():
    missing = Control(name="production", factor=1, missing="nothing is in production")
    record = Labels.of(
        NumberLabel(column="fare"),
        manifest({"numbers": 100, "": 10}, [1, 2, 3]),
        [control({}), missing, control({"numbers": 90}, [1, 2, 4])],
    )
    assert (record.now.rows, record.now.quantiles) == (100, [1, 2, 3])
    assert [side.labels.quantiles for side in record.controls] == [[1, 2, 4]]


def test_of_many_classes_the_frequent_ones_are_recorded_and_their_shares_stay_right():
    many = {f"class {n:03}": 1000 - n for n in range(3 * CLASSES)}
    record = Labels.of(ClassesLabel(column="product"), manifest(many), [control({"gone": 7, **many})])
    assert len(record.now.counts) == CLASSES
    assert record.now.share("class 000") == 1000 / sum(many.values())
    assert "gone" not in record.controls[0].labels.counts
