"""What the values of a column are, and columns as the widest kind that a data set has of them."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.data.errors import DataError
from nightly.snapshots.parsing import parse_numbers

# Each the wider of the one before it. `whole` are floats like 3.0, which pandas makes of whole numbers where some are
# missing: they are FLOAT, unless a schema says INT.
Kind = Literal["null", "int64", "whole", "float", "string"]
KINDS: tuple[Kind, ...] = ("null", "int64", "whole", "float", "string")
OF_SCHEMA: dict[int, Kind] = {schema_pb2.INT: "int64", schema_pb2.FLOAT: "float", schema_pb2.BYTES: "string"}
NUMERIC = {"int64": pa.int64(), "float": pa.float64()}

NUMBER = r"^\s*([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[nN][aA][nN])\s*$"
NAN = r"^\s*[nN][aA][nN]\s*$"
LONG = r"^\s*[+-]?\d{19,}\s*$"  # an id rather than a number: as a float it would lose its end
LONG_FROM = 1e18
FIRST_ROWS = 64  # settle most columns of text


def wider(one: Kind, other: Kind) -> Kind:
    return max(one, other, key=KINDS.index)


def merge(found: Iterable[dict[str, Kind]]) -> dict[str, Kind]:
    """The columns of several files, each the widest of what they have."""
    merged: dict[str, Kind] = {}
    for columns in found:
        for name, kind in columns.items():
            merged[name] = wider(merged.get(name, "null"), kind)
    return merged


def fits(found: Kind, wanted: Kind) -> bool:
    """Whether a column of kind `found` can be read as `wanted` without losing a value."""
    return KINDS.index(found) <= KINDS.index(wanted) or (found, wanted) == ("whole", "int64")


def kind_of_texts(texts: pa.StringArray, known: Kind = "null") -> Kind:
    """The narrowest kind, at least `known`, that holds all of `texts`, as TFDV infers it; but `nan` is missing."""
    if texts.null_count == len(texts) or known == "string":
        return known
    if known in ("null", "int64"):
        try:
            texts.cast(pa.int64())
            return "int64"
        except pa.ArrowInvalid:
            pass
    try:
        values = texts.cast(pa.float64())  # the fast way; its strict parser takes most numbers
        plain = not pc.any(pc.or_(pc.is_inf(values), pc.greater_equal(pc.abs(values), LONG_FROM))).as_py()
    except pa.ArrowInvalid:
        plain = False
    if not plain:
        for some in (texts.slice(0, FIRST_ROWS), texts):
            numbers, long = (pc.match_substring_regex(some, pattern) for pattern in (NUMBER, LONG))
            if not pc.all(numbers, min_count=0).as_py() or pc.any(long).as_py():
                return "string"
        values, _ = parse_numbers(texts, pa.float64())
    values = values.filter(pc.is_finite(values))
    if known == "float" or not pc.all(pc.equal(pc.floor(values), values), min_count=0).as_py():
        return "float"
    return wider(known, "whole" if pc.any(pc.match_substring_regex(texts, "[.eEnN]")).as_py() else "int64")


def parsed(texts: pa.StringArray, kind: Kind) -> tuple[pa.Array, pa.BooleanArray]:
    """Text -> numbers of `kind`, and where it is none; a blank and `nan` are null."""
    values, wrong = parse_numbers(texts, NUMERIC[kind])
    if pc.any(wrong).as_py():
        wrong = pc.and_not(wrong, pc.match_substring_regex(texts, NAN).fill_null(False))
    return values, wrong


def is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def kind_of_field(column: pa.Field) -> Kind:
    """The kind of a Parquet column, or of its lists' values. Raises DataError where a tf.Example cannot hold it."""
    kind = column.type.value_type if is_list(column.type) else column.type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_nested(kind):
        raise DataError(
            f"{column.name} is {column.type}; a tf.Example holds numbers, text, and lists of them: flatten it"
        )
    if pa.types.is_null(kind):
        return "null"
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_timestamp(kind):
        return "int64"
    return "float" if pa.types.is_floating(kind) or pa.types.is_decimal(kind) else "string"


def as_kind(values: pa.Array, kind: Kind) -> pa.Array:
    """A Parquet column as the kind that all files' values have; times stay times. Raises ArrowInvalid."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    inner = values.type.value_type if is_list(values.type) else values.type
    held = {
        "null": True,
        "int64": not pa.types.is_floating(inner) and not pa.types.is_decimal(inner),
        "float": pa.types.is_floating(inner),
        "string": pa.types.is_string(inner) or pa.types.is_binary(inner),
    }[kind]
    if held or pa.types.is_null(inner):
        return values
    wanted = NUMERIC.get(kind, pa.binary() if pa.types.is_large_binary(inner) else pa.string())
    return values.cast(pa.list_(wanted) if is_list(values.type) else wanted)


def feature_lists(values: pa.Array) -> pa.Array:
    """Lists -> lists of what a tf.Example holds: int64, float32 or bytes; a column without any value stays as it is."""
    if pa.types.is_null(values.type):
        return values  # of no type yet: a later batch may have one
    inner = values.type.value_type
    wanted = pa.binary()
    if pa.types.is_integer(inner) or pa.types.is_boolean(inner):
        wanted = pa.int64()
    elif pa.types.is_floating(inner):
        wanted = pa.float32()
    return values if inner == wanted else values.cast(pa.list_(wanted))


def scalars(values: pa.Array) -> pa.Array:
    """Lists of at most one value -> the values; an empty one is null. Raises DataError where one has several."""
    if not is_list(values.type):
        return values
    lengths = pc.list_value_length(values).fill_null(0).to_numpy()
    if lengths.max(initial=0) > 1:
        raise DataError("a column of lists makes no id: name others in --id-columns")
    paths = np.where(lengths > 0, np.cumsum(lengths) - 1, -1)
    return values.flatten().take(pa.array(paths, mask=paths < 0))
