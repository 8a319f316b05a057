"""Weights that training and metrics cannot use: blank, negative, not finite, or all zero."""

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from nightly.checks.evidence import Evidence
from nightly.checks.findings import fault
from nightly.records.night import Reason
from nightly.snapshots.parsing import are_finite

NUMBERS = ("int64", "float")  # types of a snapshot's columns
FAULTS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "blank": lambda weights: weights.is_null(),
    "negative": lambda weights: pc.less(weights, 0),
    "not finite": lambda weights: pc.invert(are_finite(weights)),
}


def check(evidence: Evidence) -> Iterator[Reason]:
    """Yield each fault of the labelled rows' weights. Rows without a label are not used, whatever they weigh."""
    column, columns = evidence.config.data.weight_column, evidence.manifest.columns
    if not column:
        return
    if column not in columns:
        message = f"the weight {column} is gone: the data has no such column"
        yield _held(evidence, "missing", message, "Ask the source's owner, or set another data.weight_column.")
        return
    if columns[column] not in NUMBERS:
        matches = evidence.rows.find([column], lambda weights: weights.is_valid())
        example = f": {matches.value!r} in {matches.references[0]}" if matches.rows else ""
        message = f"the weight {column} is {columns[column]}, and not a number{example}"
        yield _held(evidence, columns[column], message, "Ask the source's owner for numbers.", matches.references)
        return
    yield from _left_out(evidence, column)
    label = evidence.config.data.label.column
    if label in columns:
        for fault, test in FAULTS.items():
            matches = evidence.rows.find(
                [column, label], lambda weights, labels, test=test: pc.and_(labels.is_valid(), test(weights))
            )
            if matches.rows:
                value = f"{matches.value or 'blank'} in {matches.references[0]}"
                message = f"the weight {column} is {fault}, in {matches.rows:,} row{'s'[: matches.rows > 1]}: {value}"
                action = "Every labelled row needs a weight of 0 or more: correct them at the source."
                yield _held(evidence, matches.rows, message, action, matches.references)
    yield from _all_zero(evidence, column)


def _left_out(evidence: Evidence, column: str) -> Iterator[Reason]:
    """Yield the rows whose weight could not be read. They are not in the snapshot, so the model would miss them."""
    for count in evidence.delivery.rejected if evidence.delivery else []:
        if count.column == column:
            left_out = "1 row was" if count.rows == 1 else f"{count.rows:,} rows were"
            message = f"{left_out} left out, because the weight {column} is not a number there: {count.place}"
            yield _held(evidence, count.rows, message, "They are in rejected.parquet in the night's folder.")


def _all_zero(evidence: Evidence, column: str) -> Iterator[Reason]:
    for split, measured in (("train", evidence.train), ("eval", evidence.eval)):
        stats = measured.features.get(column)
        if stats is None or not stats.num_stats.common_stats.num_non_missing or stats.num_stats.max > 0:
            continue
        rows = evidence.rows.between(column, 0, 0)
        message = f"every weight {column} of the {split} split is 0, as in {rows[0] if rows else 'all rows'}"
        yield _held(evidence, "0", message, "Nothing can be learned or measured so: look at the source.", rows)


def _held(evidence: Evidence, figure: float | str, message: str, action: str, rows: list[str] | None = None) -> Reason:
    return fault(
        *("weights", evidence.config.data.weight_column, message),
        figure=figure,
        threshold=0 if isinstance(figure, int) else "numbers of 0 and more",
        action=action,
        rows=rows or [],
    )
