"""Typed columns of Parquet give the same snapshot and the same rejected rows as their text in CSV."""

import csv
import io
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightly.snapshots.parsing import parse_numbers
from nightly.snapshots.types import TYPES

INTEGERS = [0, 1, -1, 255, 2**31, -(2**31), 2**53, 2**53 + 1, 2**62 + 3, 2**63 - 1, -(2**63), None]
FLOATS = [0.0, -0.0, 0.1, 1 / 3, 3.0, -17.0, 1e15, 1e16, 1e17, 1.5e17, 123456789.125, 1e-5, 1e-7, 5e-324, None]
FLOATS += [2.0**53, 2.0**62, 2.0**63, -(2.0**63), -(2.0**64), 1.7976931348623157e308, math.nan, math.inf, -math.inf]


def drawn(kind: pa.DataType) -> pa.Array:
    """Edge cases and a thousand random values of the type."""
    random = np.random.default_rng(1)
    if pa.types.is_integer(kind):
        limits = np.iinfo(kind.to_pandas_dtype())
        fitting = [number for number in INTEGERS if number is None or limits.min <= number <= limits.max]
        numbers = random.integers(limits.min, limits.max, 1000, dtype=kind.to_pandas_dtype(), endpoint=True)
        return pa.array([*fitting, *numbers.tolist()], kind)
    with np.errstate(over="ignore"):
        bits = random.integers(0, 2**64, 1000, dtype=np.uint64).view(np.float64)  # of every magnitude
        numbers = np.concatenate([bits, random.normal(0, 1e6, 1000).round(2), random.integers(0, 10**9, 500) * 1.0])
        return pa.array([*FLOATS, *numbers.tolist()], pa.float64()).cast(kind, safe=False)


@pytest.mark.parametrize("kind", ["int64", "float"])
@pytest.mark.parametrize("source", [pa.int64(), pa.float64()], ids=str)
def test_a_number_and_its_shortest_text_are_the_same_number(source, kind):
    values = drawn(source)
    typed, wrong = parse_numbers(values, TYPES[kind])
    from_text, wrong_text = parse_numbers(values.cast(pa.string()), TYPES[kind])
    assert typed.equals(from_text)
    assert wrong.equals(wrong_text)
    assert typed.null_count < len(typed)


@pytest.mark.parametrize(
    "source",
    [pa.int8(), pa.uint8(), pa.int32(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.bool_()],
    ids=str,
)
def test_parquet_and_csv_give_the_same_snapshot_and_reject_the_same_rows(bench, source):
    values = pa.array([True, False, None] * 10) if pa.types.is_boolean(source) else drawn(source)
    texts = (values.cast(pa.int64()) if pa.types.is_boolean(source) else values).cast(pa.string())
    columns = {"day": ["2016-01-02"] * len(values), "trips": values, "fare": values, "city": ["A"] * len(values)}
    pq.write_table(pa.table(columns), bench.bodies / "a.parquet")
    typed, rejected = bench.ingest(), bench.rejected()
    (bench.bodies / "a.parquet").unlink()
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows(("2016-01-02", value, value, "A") for value in texts.to_pylist())
    bench.body("a.csv", text.getvalue())
    assert bench.ingest().snapshot_id == typed.snapshot_id
    faults = [(row["reason"], row["column"], row["value"], row["text"]) for row in rejected]
    assert faults == [(row["reason"], row["column"], row["value"], row["text"]) for row in bench.rejected()]
