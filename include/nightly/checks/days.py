"""Missing and doubled days inside the window, and thin weeks, compared with the weeks around them."""

import datetime as dt
import statistics
from collections.abc import Iterator

from nightly.checks.evidence import Evidence
from nightly.checks.findings import CONTRIBUTIONS, finding, not_measured
from nightly.records.night import Contribution, Reason

WEEKS = 4  # compared before and after a day; near enough to be the same season
USUAL_ROWS = 10  # a day with fewer may be empty by chance; with 10, once in 22,000 days
EMPTY = 0.1  # of the usual rows; a day with fewer, a few stray rows, counts as missing
MANY = 1.8  # times the usual rows; a doubled day also exceeds them by six times the usual spread
FEW_SPREADS = 3  # a thin week is below the usual rows by this many times the usual spread

Counts = dict[dt.date, int]  # day -> rows; every day, in order


def check(evidence: Evidence) -> Iterator[Reason]:
    """Yield the findings about days; none for data without a time."""
    if not evidence.config.data.time_column:
        return
    if not evidence.manifest.rows_by_day:
        for name in ("max_missing_days", "min_week_share"):
            yield not_measured(name, "the snapshot is of an older version, without its rows by day")
        return
    counts = whole_days(evidence)
    missing, doubled = unusual_days(counts)
    for name, unusual, problem, action in (
        ("max_missing_days", missing, "have no rows, or hardly any", "Have the source deliver them again."),
        ("max_doubled_days", doubled, "have far more rows than usual", "Look whether they were delivered twice."),
    ):
        named = unusual[:CONTRIBUTIONS]
        days = ", ".join(f"{day} ({rows:,} rows; {usual:,.0f} are usual)" for day, rows, usual in named)
        yield finding(
            *(name, evidence.config.data.time_column, len(unusual), getattr(evidence.gate, name)),
            f"{len(unusual)} days inside the window {problem}" + (f": {days}" if days else ""),
            action=action,
            values=[
                Contribution(value=str(day), rows=rows, share=rows / evidence.manifest.rows) for day, rows, _ in named
            ],
        )

    yield _thin_week(evidence, counts)


def _thin_week(evidence: Evidence, counts: Counts) -> Reason:
    column, min_share = evidence.config.data.time_column, evidence.gate.min_week_share
    week = thinnest_week(counts)
    action = "Look whether the source delivered all of these days; have it deliver them again."
    if week is None:
        message = "no seven days in a row have fewer rows than chance allows"
        return finding("min_week_share", column, 1.0, min_share, message, action=action)
    day, rows, usual = week
    return finding(
        *("min_week_share", column, rows / usual, min_share),
        f"the seven days from {day} have {rows:,} rows, {rows / usual:.0%} of the usual {usual:,.0f}",
        limit=f"at least {min_share:.0%} are required",
        action=action,
        values=[Contribution(value=f"{day} and six days", rows=rows, share=rows / evidence.manifest.rows)],
    )


def whole_days(evidence: Evidence) -> Counts:
    """Return the rows of each whole day, between the ends of the window and between the first and the last row."""
    manifest, (start, end) = evidence.manifest, evidence.window
    first = max(start, manifest.first_row).date() + dt.timedelta(days=1)
    last = min(end, manifest.last_row).date() - dt.timedelta(days=1)
    days = (first + dt.timedelta(days=n) for n in range((last - first).days + 1))
    return {day: manifest.rows_by_day.get(str(day), 0) for day in days}


def thinnest_week(counts: Counts) -> tuple[dt.date, int, float] | None:
    """Return the seven consecutive days with the smallest share of their usual rows: first day, rows, usual rows.

    None if chance explains every week's rows. The usual rows are the lesser of two medians: of the four weeks before
    and of the four after. So a lasting change of the source does not make a week thin. Single days are not judged: they
    have too few rows, and may be holidays.
    """
    days, rows = list(counts), list(counts.values())
    totals = [sum(rows[n : n + 7]) for n in range(len(rows) - 6)]
    weeks, changes = [], []
    for n, total in enumerate(totals):
        before, after = (
            [totals[m] for m in (n + sign * 7 * weeks for weeks in range(1, WEEKS + 1)) if 0 <= m < len(totals)]
            for sign in (-1, 1)
        )
        middle = statistics.median([*before, *after]) if len(before) + len(after) >= 3 else 0
        usual = min(statistics.median(side) for side in (before, after) if side) if middle else 0
        if usual:
            weeks.append((days[n], total, usual))
            changes.append(abs(total - middle) / middle**0.5)
    # Random counts spread by the square root of their mean; most sources spread more.
    spread = max(1, 1.5 * statistics.median(changes)) if changes else 1
    thin = [week for week in weeks if week[2] - week[1] > FEW_SPREADS * spread * week[2] ** 0.5]
    return min(thin, key=lambda week: week[1] / week[2], default=None)


def unusual_days(counts: Counts) -> tuple[list[tuple[dt.date, int, float]], ...]:
    """Return the missing and the doubled days in order, each with its rows and its usual rows."""
    missing, doubled = [], []
    for day, rows in counts.items():
        around = [day + dt.timedelta(weeks=weeks) for weeks in range(-WEEKS, WEEKS + 1) if weeks]
        others = [counts[other] for other in around if other in counts]
        before, after = ([counts[d] for d in around if d in counts and (d > day) == later] for later in (False, True))
        # Both sides must have rows, or the days around a lasting fall or rise would count as faults.
        if len(others) < 3 or any(side and statistics.median(side) < USUAL_ROWS for side in (before, after)):
            continue
        usual = statistics.median(others)
        empty = sum(other < EMPTY * usual for other in others)
        spread = max(usual**0.5, 1.5 * statistics.median(abs(other - usual) for other in others))
        # If such days are empty now and then, another is no fault.
        if rows < EMPTY * usual and empty <= 1 and not _fallen(counts, day):
            missing.append((day, rows, usual))
        elif rows > MANY * usual and rows - usual > 6 * spread:
            doubled.append((day, rows, usual))
    return missing, doubled


def _fallen(counts: dict[dt.date, int], day: dt.date) -> bool:
    """Return True if the non-empty days of the week after `day` have under half their rows of four weeks earlier.

    The source has then shrunk overnight, and an empty day is likely. The weeks around `day` would show it only later.
    """
    after = [day + dt.timedelta(days=n) for n in range(1, 8) if counts.get(day + dt.timedelta(days=n))]
    return 2 * sum(counts[d] for d in after) < sum(counts.get(d - dt.timedelta(weeks=WEEKS), 0) for d in after)
