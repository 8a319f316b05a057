"""What a proposed schema change says about a column's values."""

import difflib
import math
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from nightly.records.night import Contribution
from nightly.snapshots.parsing import parse_numbers

VALUES = 5  # shown as evidence for a change


def type_of(column: pa.ChunkedArray) -> str:
    """Return the narrowest type that holds every value of a text column."""
    values = column.combine_chunks()
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):  # of lists, which keep their types
        return "INT" if pa.types.is_integer(column.type) else "FLOAT"
    if column.null_count == len(column) or pa.types.is_binary(column.type):
        return "BYTES"
    for kind, name in ((pa.int64(), "INT"), (pa.float64(), "FLOAT")):
        if not pc.any(parse_numbers(values, kind)[1]).as_py():
            return name
    return "BYTES"


def most_frequent(column: pa.ChunkedArray, limit: int | None = VALUES, of: int | None = None) -> list[Contribution]:
    """Return the most frequent values with their rows and shares of `of` rows, by default of all rows with a value."""
    total = max(of if of is not None else len(column) - column.null_count, 1)
    if pa.types.is_binary(column.type):  # images and the like hardly repeat, and are no text
        return []
    counted = [(entry["values"], entry["counts"]) for entry in pc.value_counts(column.drop_null()).to_pylist()]
    counted.sort(key=lambda pair: (-pair[1], str(pair[0])))
    return [Contribution(value=str(value), rows=rows, share=rows / total) for value, rows in counted[:limit]]


def odd(kind: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    """Return a test for text that is no number, or for numbers with fractions."""
    if kind == pa.string():
        return lambda array: parse_numbers(array, pa.float64())[1]
    return lambda array: pc.not_equal(array, pc.trunc(array))


def alike_of(value: str, known: set[str]) -> str:
    """Return the known value that `value` may be a misspelling of, or ""."""
    folded = {entry.casefold(): entry for entry in sorted(known)}
    near = difflib.get_close_matches(value.casefold(), folded, n=1, cutoff=0.8)
    return folded[near[0]] if near else ""


def outward(number: float, kind: str, direction: int) -> float:
    """Round a bound outward to three digits; leave whole numbers as they are."""
    if kind == "int_domain" or number == 0:
        return number
    step = 10.0 ** (math.floor(math.log10(abs(number))) - 2)
    return (math.ceil if direction > 0 else math.floor)(number / step) * step


def interval(low: float, high: float) -> str:
    ends = [f"at least {low:.15g}" if math.isfinite(low) else "", f"at most {high:.15g}" if math.isfinite(high) else ""]
    return ", ".join(filter(None, ends))
