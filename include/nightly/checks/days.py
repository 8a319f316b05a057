"""Days inside the window that are missing or doubled, and weeks that are thin, by what the weeks around them have."""

import datetime as dt
import statistics
from collections.abc import Iterator

from nightly.checks.evidence import CONTRIBUTIONS, Evidence, finding, not_measured
from nightly.records.night import Contribution, Reason

WEEKS = 4  # before and after a day: so near, the season is the same
USUAL_ROWS = 10  # a day with fewer can be empty by chance: with 10, once in 22,000 days
EMPTY = 0.1  # of the usual; a few strays do not make a day
MANY = 1.8  # times the usual, and six times its ordinary spread more
FEW_SPREADS = 3  # so many times its ordinary spread a thin week is below the usual

Counts = dict[dt.date, int]  # every day in order -> its rows


def check(evidence: Evidence) -> Iterator[Reason]:
    if not evidence.manifest.rows_by_day:
        for name in ("max_missing_days", "min_week_share"):
            yield not_measured(name, "the snapshot is of an older version, without its rows by day")
        return
    counts = whole_days(evidence)
    missing, doubled = unusual_days(counts)
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

    yield _thin_week(evidence, counts)


def _thin_week(evidence: Evidence, counts: Counts) -> Reason:
    column, wanted = evidence.config.data.time_column, evidence.gate.min_week_share
    found = thinnest_week(counts)
    action = "Look whether the source delivered all of these days; have it deliver them again."
    if found is None:
        message = "no seven days in a row have fewer rows than chance allows"
        return finding("min_week_share", column, 1.0, wanted, message, action=action)
    day, rows, usual = found
    return finding(
        *("min_week_share", column, rows / usual, wanted),
        f"the seven days from {day} have {rows:,} rows, {rows / usual:.0%} of the usual {usual:,.0f}; "
        f"at least {wanted:.0%} are wanted",
        action=action,
        values=[Contribution(value=f"{day} and six days", rows=rows, share=rows / evidence.manifest.rows)],
    )


def whole_days(evidence: Evidence) -> Counts:
    """The rows of each day that lies whole between the ends of the night's window, and of its first and last row."""
    manifest, (start, end) = evidence.manifest, evidence.window
    first = max(start, manifest.first_row).date() + dt.timedelta(days=1)
    last = min(end, manifest.last_row).date() - dt.timedelta(days=1)
    days = (first + dt.timedelta(days=n) for n in range((last - first).days + 1))
    return {day: manifest.rows_by_day.get(str(day), 0) for day in days}


def thinnest_week(counts: Counts) -> tuple[dt.date, int, float] | None:
    """Return the seven days in a row with the least share of their usual rows: the first day, the rows, the usual ones.

    None where chance explains the rows of all of them. Usual are the same days of the four weeks before and of the
    four after, the lesser of the two: a source that has lastingly more or fewer rows is not thin. A single day has too
    few rows to tell, and may be a holiday.
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
    # Of counts by chance alone the spread is the root of the usual; most sources have more.
    spread = max(1, 1.5 * statistics.median(changes)) if changes else 1
    thin = [week for week in weeks if week[2] - week[1] > FEW_SPREADS * spread * week[2] ** 0.5]
    return min(thin, key=lambda week: week[1] / week[2], default=None)


def unusual_days(counts: Counts) -> tuple[list[tuple[dt.date, int, float]], ...]:
    """The missing and the doubled days, each with its rows and the usual ones, in order."""
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
