"""A verdict as a person reads it."""

import pytest

from nightly.nights.report import NOTE_LIMIT, note, report, table
from nightly.records.night import Reason, utc_now
from nightly.records.verdict import Outcome, Verdict

DRIFT = Reason(
    check="drift",
    subject="company",
    figure=0.3123456789,
    threshold=0.1,
    held=True,
    message="company drifted by 0.312 from the snapshot of 2016-01-01",
    action="Ask the source's owner.",
    control="last_accepted",
)
ROWS = Reason(check="min_rows", subject="", figure=5000, threshold=1000, held=False, message="5,000 rows; enough")
NO_BASELINE = Reason(check="drift", subject="", figure=None, threshold=None, held=False, message="nothing to compare")


def make(outcome=Outcome.HELD_DATA, reasons=(ROWS, DRIFT), **more):
    default = {"summary": "the data gate held the night", "decided_at": utc_now()}
    return Verdict(model="taxi", run_id="tonight", outcome=outcome, reasons=list(reasons), **(default | more))


def test_the_table_has_each_finding_with_its_figure_those_that_hold_first():
    assert table([ROWS, NO_BASELINE, DRIFT]).splitlines() == [
        "      check     subject  against        value     threshold",
        "HELD  drift     company  last accepted  0.312346  0.1",
        "      company drifted by 0.312 from the snapshot of 2016-01-01. Ask the source's owner.",
        "ok    min_rows                          5000      1000",
        "-     drift                             -         -",
        "      nothing to compare",
    ]


def test_the_report_leaves_out_what_there_is_not():
    text = report(make(rows=5000, snapshot_id="ab" * 32, override_reason="a thin month"))
    assert text.startswith("! HELD_DATA: the data gate held the night\n")
    assert "snapshot      abababababab, 5,000 rows" in text and "because: a thin month" in text
    assert "version" not in text and "failed task" not in text
    assert max(map(len, text.splitlines())) <= 110


def test_the_report_has_what_holds_with_its_control_and_counts_the_rest():
    ok = [ROWS.model_copy(update={"check": f"check {n}"}) for n in range(115)]
    also = DRIFT.model_copy(update={"control": "production", "threshold": 0.15})
    lines = report(make(reasons=[*ok, DRIFT, NO_BASELINE, also])).splitlines()
    assert "  drift of company, against last accepted  0.312346  threshold 0.1" in lines
    assert "  drift of company, against production     0.312346  threshold 0.15" in lines
    assert lines[-1] == "115 other checks are ok, 1 could not be measured"
    assert sum("Ask the source's owner." in line for line in lines) == 1 and len(lines) < 15


def test_what_the_examples_cannot_tell_is_counted_apart_and_metrics_of_classes_are_left_out():
    message = "auc is 0.9000, and 0.9010 in production; 0.02 worse is allowed; 90 examples cannot tell"
    open_ = ROWS.model_copy(
        update={"check": "auc against production", "message": message, "severity": "warning", "undecided": True}
    )
    lines = report(make(reasons=[ROWS, open_], metrics={"accuracy": 0.9, "recall:Cash": 0.8})).splitlines()
    assert lines[-1] == "1 other checks are ok, 1 could not be decided on so few examples"
    assert "metrics       accuracy 0.9" in lines
    assert table([open_]).splitlines()[1].startswith("?  auc against production")
    assert message in table([open_])


@pytest.mark.parametrize("count", [1, 3, 50])
def test_a_note_fits_into_airflows_database_and_says_what_it_leaves_out(count):
    reasons = [DRIFT.model_copy(update={"subject": f"feature_{n}"}) for n in range(count)]
    text = note(make(reasons=reasons, summary="the data gate held the night: " + "x " * 400))
    assert len(text) <= NOTE_LIMIT
    assert text.startswith("**! HELD_DATA") and text.splitlines()[0].endswith("**")
    assert ("more, in the verdict task" in text) == (count == 50)
