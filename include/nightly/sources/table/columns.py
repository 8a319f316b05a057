"""The columns of a table that are read, with types that Parquet and a snapshot can hold."""

import uuid

import pyarrow as pa

from nightly.io.hints import did_you_mean
from nightly.records.data_config import column_name
from nightly.sources.base import Context
from nightly.sources.errors import RefusedError


def selected(schema: pa.Schema, columns: list[str], place: str) -> pa.Schema:
    """Return the plain types of the columns to read; all of them if `columns` is empty.

    Raises RefusedError for a column that the table lacks, or whose values are nested.
    """
    for name in columns:
        if name not in schema.names:
            raise RefusedError(f"{place} has no column {name!r}, which source.columns names{_near(name, schema)}")
    fields = [schema.field(name) for name in columns or schema.names]
    for field in fields:
        element = field.type.value_type if _is_list(field.type) else field.type
        if pa.types.is_nested(element):
            raise RefusedError(
                f"{place}: the column {field.name!r} is {_kind(field.type)}, and a column holds values or lists of "
                "values: name the columns to read in source.columns, without it, or flatten it in the table."
            )
    return pa.schema([pa.field(field.name, _plain(field.type)) for field in fields])


def time_column(schema: pa.Schema, context: Context, place: str) -> str:
    """Return the table's name of the time column; "" if the data has no time. Raises RefusedError if it is missing."""
    if not context.time_column:
        return ""
    for name in schema.names:
        if (context.rename.get(name) or column_name(name)) == context.time_column:
            return name
    near = did_you_mean(context.time_column, [column_name(name) for name in schema.names])
    raise RefusedError(f"{place} has no column {context.time_column!r}, which is the data.time_column{near}")


def as_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with the types of `schema`. Raises ArrowInvalid for a value that another type cannot hold."""
    arrays = [_cast(array, field.type) for array, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type == kind:
        return array
    if isinstance(array.type, pa.ExtensionType):
        array = array.storage
    if pa.types.is_string(kind) and pa.types.is_fixed_size_binary(array.type):  # a UUID
        return pa.array([value and str(uuid.UUID(bytes=value)) for value in array.to_pylist()], kind)
    # Times finer than a microsecond are cut, as a snapshot has microseconds.
    return array.cast(kind, safe=not pa.types.is_timestamp(kind))


def _plain(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.ExtensionType):  # a UUID
        return pa.string()
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if _is_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    return pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _kind(kind: pa.DataType) -> str:
    if _is_list(kind):
        return f"a list of {_kind(kind.value_type).split(' ', 1)[1]}s"
    return "a map" if pa.types.is_map(kind) else "a struct" if pa.types.is_struct(kind) else "a list"


def _near(name: str, schema: pa.Schema) -> str:
    return did_you_mean(name, schema.names)
