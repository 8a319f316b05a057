"""Read Parquet as batches of columns: text, as of CSV, and lists, bytes and times as they are.

Numbers become text as well, so that a row has the same hash and the same checks whatever file it comes from.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightly.examples.parquet import rows_per_batch
from nightly.io.tables import shown
from nightly.snapshots.body import ROW, Body, as_text, refuse_duplicates
from nightly.snapshots.errors import UnreadableBodyError
from nightly.snapshots.rejects import Rejects
from nightly.snapshots.types import is_list, is_text

ROWS = 10_000  # in a batch at most


def read_columns(body: Body) -> None:
    """Set the headers of a Parquet file, and the kinds of those that are lists or bytes.

    Raises UnreadableBodyError for nested values: a row of a snapshot is flat. Raises ColumnError if two columns have
    the same name.
    """
    schema = pq.ParquetFile(body.open()).schema_arrow
    refuse_duplicates(body.name, schema.names)
    for field in schema:
        declare(body, field)


def declare(body: Body, field: pa.Field) -> None:
    """Add a header, and its kind if it is a list or bytes. Raises UnreadableBodyError for values in values."""
    element = field.type.value_type if _is_list(field.type) else field.type
    if pa.types.is_nested(element):
        raise UnreadableBodyError(
            f"{body.name}: {field.name} is {field.type}; a column holds values or lists of values: flatten it"
        )
    body.headers.append(field.name)
    if _is_list(field.type):
        body.kinds[field.name] = f"list<{_kind(element)}>"
    elif _kind(element) == "binary":
        body.kinds[field.name] = "binary"


def read_rows(body: Body, columns: dict[str, str], rejects: Rejects, kinds: dict[str, str]) -> Iterator[pa.RecordBatch]:
    """Yield the body's rows as batches of columns and ROW; a file's first row is number 1.

    :param columns: header -> column name
    :param kinds: column -> its type in the snapshot
    """
    file = pq.ParquetFile(body.open())
    number = 1
    for batch in file.iter_batches(batch_size=rows_per_batch(file, ROWS)):
        yield as_columns(batch, number, body, columns, rejects, kinds)
        number += batch.num_rows


def as_columns(
    batch: pa.RecordBatch, number: int, body: Body, columns: dict[str, str], rejects: Rejects, kinds: dict[str, str]
) -> pa.RecordBatch:
    """Return typed columns as readers pass them on, with ROW, which is `number` in the first row.

    A list of several values in a column that is no list is rejected.
    """
    numbers = pa.array(np.arange(number, number + batch.num_rows))
    names = [columns[header] for header in batch.schema.names]
    batch = pa.RecordBatch.from_arrays([*batch.columns, numbers], [*names, ROW])
    for name in names:
        if _is_list(batch.column(name).type) and not is_list(kinds[name]):
            batch = _singles(batch, name, body, rejects)
    arrays = [_values(batch.column(name), kinds[name], body) for name in names]
    return pa.RecordBatch.from_arrays([*arrays, batch.column(ROW)], [*names, ROW])


def _singles(batch: pa.RecordBatch, name: str, body: Body, rejects: Rejects) -> pa.RecordBatch:
    """Return the batch with the only value of each list in the column; reject the rows with several."""
    lists = batch.column(name)
    lengths = pc.list_value_length(lists).fill_null(0)
    several = pc.greater(lengths, 1)
    for row in batch.filter(several).to_pylist():
        text = ", ".join(f"{column}: {shown(value)}" for column, value in row.items() if column != ROW)
        value = f"{len(row[name])} values in {name}"
        rejects.add("columns", name, file=body.name, row=row[ROW], value=value, text=text)
    batch = batch.filter(pc.invert(several))
    lists = batch.column(name)
    present = pc.greater(pc.list_value_length(lists).fill_null(0), 0)
    positions = pc.if_else(present, pc.subtract(pc.cumulative_sum(present.cast(pa.int64())), 1), None)
    return batch.set_column(batch.schema.names.index(name), name, lists.filter(present).flatten().take(positions))


def _values(values: pa.Array, kind: str, body: Body) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if not is_text(kind) or pa.types.is_null(values.type):
        return values if not is_text(kind) else pa.nulls(len(values), pa.string())
    if pa.types.is_temporal(values.type):
        return _time(values, kind)
    if pa.types.is_boolean(values.type) and kind != "string":
        values = values.cast(pa.int64())
    if kind != "string" and _is_exact(values.type):
        return values
    return as_text(values, body)


def _is_exact(data_type: pa.DataType) -> bool:
    """Return whether a number of this type and its shortest text are the same int64 or float64.

    A float32 is not: 0.1 is 0.1 by its text, and 0.10000000149 as it is. CSV and Parquet must give the same snapshot.
    """
    return pa.types.is_float64(data_type) or (pa.types.is_integer(data_type) and not pa.types.is_uint64(data_type))


def _time(values: pa.Array, kind: str) -> pa.Array:
    """Return times as they are for a column of times, as Unix seconds for a number, otherwise as text."""
    if kind == "timestamp" or not (pa.types.is_timestamp(values.type) or pa.types.is_date(values.type)):
        return values if kind == "timestamp" else values.cast(pa.string())
    if kind == "string":  # as databases and CSV write it: without a fraction of zeros
        text = pc.replace_substring_regex(values.cast(pa.string()), r"(\.\d*?)0+(Z?)$", r"\1\2")
        return pc.replace_substring_regex(text, r"\.(Z?)$", r"\1")
    seconds = values.cast(pa.timestamp("s", getattr(values.type, "tz", None)), safe=False)
    return seconds.cast(pa.int64()).cast(pa.string())


def _is_list(data_type: pa.DataType) -> bool:
    return pa.types.is_list(data_type) or pa.types.is_large_list(data_type) or pa.types.is_fixed_size_list(data_type)


def _kind(data_type: pa.DataType) -> str:
    data_type = data_type.value_type if pa.types.is_dictionary(data_type) else data_type
    if pa.types.is_integer(data_type) or pa.types.is_boolean(data_type):
        return "int64"
    if pa.types.is_floating(data_type) or pa.types.is_decimal(data_type):
        return "float"
    binary = pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type)
    return "binary" if binary or pa.types.is_fixed_size_binary(data_type) else "string"
