"""Read Avro as batches of columns: as the same values in Parquet."""

from collections.abc import Iterator
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.compute as pc

from nightly.examples.tfrecord import chunks
from nightly.snapshots.body import MARKED, Body
from nightly.snapshots.errors import UnreadableBodyError
from nightly.snapshots.parquet_rows import as_columns, declare
from nightly.snapshots.rejects import Rejects

ROWS = 10_000  # in a batch

PRIMITIVES = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int64(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "fixed": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
}
LOGICAL = {
    "date": pa.date32(),
    "time-millis": pa.time32("ms"),
    "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("ms", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("ms"),
    "local-timestamp-micros": pa.timestamp("us"),
    "uuid": pa.string(),
}


def read_fields(body: Body) -> None:
    """Set the headers of an Avro file, and the kinds of those that are lists or bytes. Raises UnreadableBodyError."""
    for field in _schema(body):
        declare(body, field)


def read_avro(body: Body, columns: dict[str, str], rejects: Rejects, kinds: dict[str, str]) -> Iterator[pa.RecordBatch]:
    """Yield the body's records as batches of columns and ROW; a file's first record is number 1.

    :param columns: field -> column name
    :param kinds: column -> its type in the snapshot
    """
    schema, number = _schema(body), 1
    for records in chunks(_records(body), ROWS, lambda _: 0):
        arrays = [_array([record[field.name] for record in records], field.type, body) for field in schema]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        yield as_columns(batch, number, body, columns, rejects, kinds)
        number += len(records)


def _records(body: Body) -> Iterator[dict[str, Any]]:
    """Yield the records of the complete blocks."""
    with body.open() as file:
        try:
            yield from fastavro.reader(file, handle_unicode_errors="nightly.mark")
        except Exception as error:  # of fastavro or the codec; they do not tell a cut file from a damaged one
            if _remains(file):
                raise _damaged(body, error) from error
            body.end("it ends in the middle of a block")


def _remains(file: Any) -> bool:
    try:
        return bool(file.read(1))
    except EOFError:
        return False


def _damaged(body: Body, error: Exception) -> UnreadableBodyError:
    problem = "cannot be read" if "codec" in str(error) else "is not Avro, or is damaged"
    return UnreadableBodyError(f"{body.name} {problem}: {error}")


def _schema(body: Body) -> pa.Schema:
    """Return the fields with the Arrow types of their values."""
    with body.open() as file:
        try:
            schema: Any = fastavro.reader(file).writer_schema
        except Exception as error:
            raise _damaged(body, error) from error
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise UnreadableBodyError(f"{body.name} holds no records: its schema is of {schema}; write one record a row")
    named: dict[str, Any] = {}
    return pa.schema([(field["name"], _type(field["type"], field["name"], body, named)) for field in schema["fields"]])


def _type(schema: Any, name: str, body: Body, named: dict[str, Any]) -> pa.DataType:
    """Return the Arrow type of a field's values.

    :param named: the enums and fixed types so far, which later fields name
    """
    data_type: pa.DataType | None
    if isinstance(schema, list):
        data_type = _union_type({_type(choice, name, body, named) for choice in schema if choice != "null"})
    elif isinstance(schema, dict):
        data_type = _declared_type(schema, name, body, named)
    elif schema not in PRIMITIVES and (known := schema.rpartition(".")[2]) in named:
        data_type = _type(named[known], name, body, named)
    else:
        data_type = PRIMITIVES.get(schema)
    if data_type is None:
        kind = schema["type"] if isinstance(schema, dict) else "a union of several types"
        raise UnreadableBodyError(
            f"{body.name}: {name} is {kind}; a column holds values or lists of values: flatten it"
        )
    return data_type


def _union_type(types: set[pa.DataType]) -> pa.DataType | None:
    """Return the type that holds the values of each type; None if there is none."""
    if not types:
        return pa.null()
    if len(types) == 1:
        return types.pop()
    return pa.float64() if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in types) else None


def _declared_type(schema: dict[str, Any], name: str, body: Body, named: dict[str, Any]) -> pa.DataType | None:
    """Return the type of a schema in full, and remember it by its name, if any; None if no column holds it."""
    if "name" in schema:
        named[schema["name"].rpartition(".")[2]] = schema
    logical = schema.get("logicalType")
    if logical == "decimal":
        return pa.decimal128(schema["precision"], schema.get("scale", 0))
    if logical in LOGICAL:
        return LOGICAL[logical]
    if schema["type"] == "array":
        return pa.list_(_type(schema["items"], name, body, named))
    return PRIMITIVES.get(schema["type"])


def _array(values: list[Any], data_type: pa.DataType, body: Body) -> pa.Array:
    if pa.types.is_string(data_type):
        values = [value if value is None or isinstance(value, str) else str(value) for value in values]  # a UUID
    array = pa.array(values, data_type)
    if pa.types.is_string(data_type) and not body.marked:
        body.marked = pc.any(pc.match_substring_regex(array, MARKED)).as_py() or False
    return array
