"""Days inside the window that are missing, or there twice, by what days of that weekday around them have."""

import datetime as dt
import statistics
from collections.abc import Iterator

from include.contracts.night import Contribution, Reason
from include.contracts.snapshot import SnapshotManifest
from include.pipeline.checks.evidence import CONTRIBUTIONS, Evidence, finding, not_measured

WEEKS = 4  # before and after a day: so near, the season is the same
USUAL_ROWS = 10  # a day with fewer can be empty by chance: with 10, once in 22,000 days
EMPTY = 0.1  # of the usual; a few strays do not make a day
MANY = 1.8  # times the usual, and six times its ordinary spread more


def check(evidence: Evidence) -> Iterator[Reason]:
    if not evidence.manifest.rows_by_day:
        yield not_measured("max_missing_days", "the snapshot is of an older version, without its rows by day")
        return
    missing, doubled = unusual_days(evidence.manifest)
    for name, found, what, action in (
        ("max_missing_days", missing, "have no rows, or hardly any", "Have the source deliver them again."),
        ("max_doubled_days", doubled, "have far more rows than usual", "Look whether they were delivered twice."),
    ):
        days = ", ".join(f"{day} ({rows:,} rows; {usual:,.0f} are usual)" for day, rows, usual in found[:CONTRIBUTIONS])
        yield finding(
            *(name, evidence.config.data.time_column, len(found), getattr(evidence.gate, name)),
            f"{len(found)} days inside the window {what}" + (f": {days}" if days else ""),
            action=action,
            values=[
                Contribution(value=str(day), rows=rows, share=rows / evidence.manifest.rows)
                for day, rows, _ in found[:CONTRIBUTIONS]
            ],
        )


def unusual_days(manifest: SnapshotManifest) -> tuple[list[tuple[dt.date, int, float]], ...]:
    """The missing and the doubled days, each with its rows and the usual ones, in order.

    A day is looked at where it lies whole between the window's ends and between the first and last row.
    """
    first = max(manifest.window_start, manifest.first_row).date() + dt.timedelta(days=1)
    last = min(manifest.window_end, manifest.last_row).date() - dt.timedelta(days=1)
    counts = {
        day: manifest.rows_by_day.get(str(day), 0)
        for day in (first + dt.timedelta(days=n) for n in range((last - first).days + 1))
    }
    missing, doubled = [], []
    for day, rows in counts.items():
        around = [day + dt.timedelta(weeks=weeks) for weeks in range(-WEEKS, WEEKS + 1) if weeks]
        others = [counts[other] for other in around if other in counts]
        before, after = ([counts[d] for d in around if d in counts and (d > day) == later] for later in (False, True))
        # On both sides, so that the days around a source's lasting fall or rise are not taken for faults.
        if len(others) < 3 or any(side and statistics.median(side) < USUAL_ROWS for side in (before, after)):
            continue
        usual = statistics.median(others)
        empty = sum(other < EMPTY * usual for other in others)
        spread = max(usual**0.5, 1.5 * statistics.median(abs(other - usual) for other in others))
        # Where such days are empty now and then, one more is no news.
        if rows < EMPTY * usual and empty <= 1 and not _fallen(counts, day):
            missing.append((day, rows, usual))
        elif rows > MANY * usual and rows - usual > 6 * spread:
            doubled.append((day, rows, usual))
    return missing, doubled


def _fallen(counts: dict[dt.date, int], day: dt.date) -> bool:
    """Whether the days of the week after `day` that have rows have under half as many as four weeks earlier: then the
    source has fallen, overnight, and an empty day is likely. The days by its other side would show it weeks later.
    """
    after = [day + dt.timedelta(days=n) for n in range(1, 8) if counts.get(day + dt.timedelta(days=n))]
    return 2 * sum(counts[d] for d in after) < sum(counts.get(d - dt.timedelta(weeks=WEEKS), 0) for d in after)
