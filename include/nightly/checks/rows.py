"""The number of rows, their age, and faults of the delivery."""

import datetime as dt
import statistics
from collections.abc import Iterator

from nightly.checks.evidence import Evidence
from nightly.checks.findings import finding, not_measured
from nightly.records.night import Reason
from nightly.records.snapshot import Delivery


def volume(evidence: Evidence) -> Iterator[Reason]:
    rows, min_rows = evidence.manifest.rows, evidence.gate.min_rows
    yield finding(
        *("min_rows", "", rows, min_rows),
        f"the snapshot has {rows:,} rows",
        limit=f"at least {min_rows:,} are required",
        action="Look whether the source was complete; a longer look-back brings more rows.",
    )


def freshness(evidence: Evidence) -> Iterator[Reason]:
    """Judge the age of the newest row; data without a time has none."""
    newest, allowed, data = evidence.manifest.last_row, evidence.gate.max_age_days, evidence.config.data
    if newest is None:
        return
    age = (evidence.window[1] - newest) / dt.timedelta(days=1)
    yield finding(
        *("max_age_days", data.time_column, round(age, 2), allowed),
        f"the newest row is {age:.1f} days older than the window's end",
        limit=f"{allowed:g} are allowed",
        action="The source has stopped or is late: ask its owner.",
    )


def delivery(evidence: Evidence) -> Iterator[Reason]:
    """Judge this night's delivery. Another delivery of the same rows may be better or worse."""
    if evidence.delivery is None:
        for name in ("truncated", "max_rejected_share", "max_duplicate_share"):
            yield not_measured(name, "the snapshot step ran with an older version, which did not record its delivery")
        return
    yield truncated(evidence.delivery)
    if evidence.delivery.rejected_rows:
        yield rejected(evidence.delivery, evidence.gate.max_rejected_share)
    yield duplicates(evidence.delivery, evidence.gate.max_duplicate_share, evidence.config.data.id_columns)


def truncated(delivery: Delivery) -> Reason:
    """Hold for any file that ends in the middle of a row. The number of missing rows is unknown."""
    bodies = delivery.truncated
    message = "no file ends in the middle of a row"
    if bodies:
        others = f"; so are {len(bodies) - 1} others" if len(bodies) > 1 else ""
        message = f"{bodies[0].file} is truncated: {bodies[0].reason}{others}; what came after it is missing"
    elif delivery.without_newline:
        files = f"the last line of {delivery.without_newline[0]}"
        if len(delivery.without_newline) > 1:
            files += f" and of {len(delivery.without_newline) - 1} other files"
        message += f"; {files} has no newline, so a cut inside of the last value would not show"
    return finding(
        *("truncated", "", len(bodies), 0),
        message,
        action="Have the source deliver it again, whole, and run the night again.",
    )


def rejected(delivery: Delivery, allowed: float) -> Reason:
    total = delivery.rows + delivery.rejected_rows
    most = max(delivery.rejected, key=lambda count: count.rows)
    return finding(
        *("max_rejected_share", most.column, delivery.rejected_rows / total, allowed),
        f"{delivery.rejected_rows:,} of {total:,} rows could not be read, "
        f"most for {most.fault} (for example {most.place})",
        action="They are kept in rejected.parquet in the night's folder, each with its reason.",
    )


def duplicates(delivery: Delivery, allowed: float, id_columns: list[str]) -> Reason:
    share = delivery.duplicate_rows / delivery.rows if delivery.rows else 0.0
    by = " + ".join(id_columns) or "all columns"
    return finding(
        *("max_duplicate_share", "", share, allowed),
        f"{delivery.duplicate_rows:,} of {delivery.rows:,} rows were there already, by {by}: {share:.1%}",
        limit=f"{allowed:.1%} are allowed",
        action="The last row of each id was kept. Look whether the source delivered a part of the window twice.",
    )


def usual_volume(evidence: Evidence) -> Iterator[Reason]:
    if not evidence.rows_accepted:
        yield not_measured("max_rows_factor", "no snapshot whose rows are known has been accepted yet")
        return
    rows, usual = evidence.manifest.rows, statistics.median(evidence.rows_accepted)
    factor = max(rows / usual, usual / max(rows, 1))
    yield finding(
        *("max_rows_factor", "", factor, evidence.gate.max_rows_factor),
        f"the snapshot has {rows:,} rows, and the last {len(evidence.rows_accepted)} accepted ones {usual:,.0f} "
        f"in the middle: {factor:.2f} times {'more' if rows > usual else 'fewer'}",
        action="Look whether the source was complete, or delivered more than the window.",
    )
