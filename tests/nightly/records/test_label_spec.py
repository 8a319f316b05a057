"""Labels of every kind are summarized and compared."""

import pytest

from nightly.records.baseline import Baseline
from nightly.records.label_config import BinaryLabel, ClassesLabel, NumberLabel
from nightly.records.label_spec import LabelSummary

BINARY = BinaryLabel(column="y", positive=["yes", "Yes"])
CLASSES = ClassesLabel(column="y")
NUMBER = NumberLabel(column="y")


def test_a_binary_label_changes_by_its_share_of_positives():
    before = LabelSummary.of(BINARY, {"yes": 10, "Yes": 10, "no": 80, "": 5}, [])
    after = LabelSummary.of(BINARY, {"yes": 50, "no": 50}, [])
    assert before.rows == 100
    assert after.change(before)[0] == pytest.approx(0.3)


def test_classes_change_by_the_largest_change_of_a_share_and_new_ones_count():
    before = LabelSummary.of(CLASSES, {"a": 50, "b": 50}, [])
    after = LabelSummary.of(CLASSES, {"a": 45, "b": 35, "c": 20}, [])
    assert after.change(before) == (pytest.approx(0.2), "c")


def test_numbers_change_by_the_largest_gap_of_their_distribution_functions():
    before = LabelSummary(rows=100, quantiles=[0.0, 1.0, 2.0, 3.0, 4.0])
    assert before.change(before)[0] == 0
    shifted = LabelSummary(rows=100, quantiles=[1.0, 2.0, 3.0, 4.0, 5.0])
    assert shifted.change(before)[0] == pytest.approx(0.25)
    elsewhere = LabelSummary(rows=100, quantiles=[10.0, 20.0, 30.0, 40.0, 50.0])
    assert elsewhere.change(before)[0] == 1


def test_a_number_that_most_rows_have_is_a_jump():
    mostly_zero = LabelSummary(rows=100, quantiles=[0.0, 0.0, 0.0, 0.0, 4.0])
    never_zero = LabelSummary(rows=100, quantiles=[1.0, 1.0, 1.0, 1.0, 4.0])
    assert never_zero.change(mostly_zero)[0] == pytest.approx(0.81, abs=0.02)


def test_a_baseline_of_an_older_version_is_read():
    old = {
        "model": "taxi", "run_id": "r", "as_of": "2016-01-01T00:00:00Z", "snapshot_id": "s",
        "accepted_at": "2016-01-01T00:00:00Z", "label_counts": {"0": 6, "1": 4},
        "label_by_value": {"pay": {"cash": [10, 4]}},
    }  # fmt: skip
    baseline = Baseline.parse(old, where="test")
    assert baseline.label_by_value["pay"]["cash"].share("positive") == 0.4
