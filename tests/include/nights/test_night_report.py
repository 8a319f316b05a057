"""A verdict as a person reads it."""

import pytest

from include.contracts.night import Reason, utc_now
from include.contracts.verdict import Outcome, Verdict
from include.nights.report import NOTE_LIMIT, note, report, table

DRIFT = Reason(
    check="drift",
    subject="company",
    figure=0.3123456789,
    threshold=0.1,
    held=True,
    message="company drifted by 0.312 from the snapshot of 2016-01-01",
    action="Ask the source's owner.",
)
ROWS = Reason(check="min_rows", subject="", figure=5000, threshold=1000, held=False, message="5,000 rows; enough")
NO_BASELINE = Reason(check="drift", subject="", figure=None, threshold=None, held=False, message="nothing to compare")


def make(outcome=Outcome.HELD_DATA, reasons=(ROWS, DRIFT), **more):
    default = {"summary": "the data gate held the night", "decided_at": utc_now()}
    return Verdict(model="taxi", run_id="tonight", outcome=outcome, reasons=list(reasons), **(default | more))


def test_the_table_has_each_finding_with_its_figure_those_that_hold_first():
    assert table([ROWS, NO_BASELINE, DRIFT]).splitlines() == [
        "      check     subject  figure    threshold",
        "HELD  drift     company  0.312346  0.1",
        "      company drifted by 0.312 from the snapshot of 2016-01-01. Ask the source's owner.",
        "ok    min_rows           5000      1000",
        "-     drift              -         -",
        "      nothing to compare",
    ]


def test_the_report_leaves_out_what_there_is_not():
    text = report(make(rows=5000, snapshot_id="ab" * 32, override_reason="a thin month"))
    assert text.startswith("🟠 HELD_DATA: the data gate held the night\n")
    assert "snapshot      abababababab, 5,000 rows" in text and "because: a thin month" in text
    assert "version" not in text and "failed task" not in text
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("count", [1, 2, 50])
def test_a_note_fits_into_airflows_database_and_says_what_it_leaves_out(count):
    text = note(make(reasons=[DRIFT] * count, summary="the data gate held the night: " + "x " * 400))
    assert len(text) <= NOTE_LIMIT
    assert text.startswith("**🟠 HELD_DATA") and text.splitlines()[0].endswith("**")
    assert ("more, in the verdict task" in text) == (count == 50)
