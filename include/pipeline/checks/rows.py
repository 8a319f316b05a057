"""How many rows there are, how fresh and how clean they are."""

import statistics
from collections.abc import Iterator

from include.contracts.night import Reason
from include.pipeline.checks.evidence import Evidence, finding, not_measured

DAY_SECONDS = 86_400


def volume(evidence: Evidence) -> Iterator[Reason]:
    rows, wanted = evidence.manifest.rows, evidence.gate.min_rows
    yield finding(
        *("min_rows", "", rows, wanted),
        f"the snapshot has {rows:,} rows; at least {wanted:,} are wanted",
        action="Look whether the source was complete; a longer look-back brings more rows.",
    )


def freshness(evidence: Evidence) -> Iterator[Reason]:
    newest, allowed, data = evidence.manifest.last_row, evidence.gate.max_age_days, evidence.config.data
    if newest is None:
        return
    end = evidence.night.as_of.timestamp() - data.late_days * DAY_SECONDS
    age = (end - newest.timestamp()) / DAY_SECONDS
    yield finding(
        *("max_age_days", data.time_column, round(age, 2), allowed),
        f"the newest row is {age:.1f} days older than the window's end; {allowed:g} are allowed",
        action="The source has stopped or is late: ask its owner.",
    )


def rejected(evidence: Evidence) -> Iterator[Reason]:
    manifest = evidence.manifest
    if not manifest.rejected_rows:
        return
    total = manifest.rows + manifest.rejected_rows
    most = max(manifest.rejected, key=lambda count: count.rows)
    yield finding(
        *("max_rejected_share", most.column, manifest.rejected_rows / total, evidence.gate.max_rejected_share),
        f"{manifest.rejected_rows:,} of {total:,} rows could not be read, "
        f"most for {most.reason} (for example {most.example!r})",
        action="They are kept in rejected.parquet in the night's folder, each with its reason.",
    )


def duplicates(evidence: Evidence) -> Iterator[Reason]:
    manifest, allowed = evidence.manifest, evidence.gate.max_duplicate_share
    total = manifest.rows + manifest.duplicate_rows
    share = manifest.duplicate_rows / total if total else 0.0
    by = " + ".join(evidence.config.data.id_columns) or "all columns"
    yield finding(
        *("max_duplicate_share", "", share, allowed),
        f"{manifest.duplicate_rows:,} of {total:,} rows were there already, by {by}: {share:.1%}; "
        f"{allowed:.1%} are allowed",
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
