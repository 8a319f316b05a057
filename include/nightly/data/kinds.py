"""The kinds of columns' values, and their conversion to the widest kind in a data set."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.data.errors import DataError
from nightly.snapshots.parsing import parse_numbers

# From narrow to wide. `whole` means floats like 3.0, which pandas writes for integers if some are missing. They are
# FLOAT unless a schema declares INT.
Kind = Literal["null", "int64", "whole", "float", "string"]
KINDS: tuple[Kind, ...] = ("null", "int64", "whole", "float", "string")
OF_SCHEMA: dict[int, Kind] = {schema_pb2.INT: "int64", schema_pb2.FLOAT: "float", schema_pb2.BYTES: "string"}
NUMERIC = {"int64": pa.int64(), "float": pa.float64()}

NUMBER = r"^\s*([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[nN][aA][nN])\s*$"
NAN = r"^\s*[nN][aA][nN]\s*$"
LONG = r"^\s*[+-]?\d{19,}\s*$"  # an id rather than a number: a float would lose its last digits
LONG_FROM = 1e18
FIRST_ROWS = 64  # enough to recognize most columns of text


def wider(first: Kind, second: Kind) -> Kind:
    """Return the wider kind."""
    return max(first, second, key=KINDS.index)


def merge(per_file: Iterable[dict[str, Kind]]) -> dict[str, Kind]:
    """Return the columns of several files, each with its widest kind."""
    merged: dict[str, Kind] = {}
    for columns in per_file:
        for name, kind in columns.items():
            merged[name] = wider(merged.get(name, "null"), kind)
    return merged


def fits(kind: Kind, target: Kind) -> bool:
    """Return whether a column of this kind can be read as `target` without losing a value."""
    return KINDS.index(kind) <= KINDS.index(target) or (kind, target) == ("whole", "int64")


def kind_of_texts(texts: pa.StringArray, known: Kind = "null") -> Kind:
    """Return the narrowest kind, not narrower than `known`, for all of `texts`.

    The rules are TFDV's, except that `nan` counts as missing.
    """
    if texts.null_count == len(texts) or known == "string":
        return known
    if known in ("null", "int64"):
        try:
            texts.cast(pa.int64())
            return "int64"
        except pa.ArrowInvalid:
            pass
    try:
        values = texts.cast(pa.float64())  # fast; Arrow's strict parser reads most numbers
        plain = not pc.any(pc.or_(pc.is_inf(values), pc.greater_equal(pc.abs(values), LONG_FROM))).as_py()
    except pa.ArrowInvalid:
        plain = False
    if not plain:
        for sample in (texts.slice(0, FIRST_ROWS), texts):
            numbers, long = (pc.match_substring_regex(sample, pattern) for pattern in (NUMBER, LONG))
            if not pc.all(numbers, min_count=0).as_py() or pc.any(long).as_py():
                return "string"
        values, _ = parse_numbers(texts, pa.float64())
    values = values.filter(pc.is_finite(values))
    if known == "float" or not pc.all(pc.equal(pc.floor(values), values), min_count=0).as_py():
        return "float"
    return wider(known, "whole" if pc.any(pc.match_substring_regex(texts, "[.eEnN]")).as_py() else "int64")


def parsed(texts: pa.StringArray, kind: Kind) -> tuple[pa.Array, pa.BooleanArray]:
    """Return the numbers, and a mask of the texts that are not of `kind`; a blank and `nan` are null."""
    values, invalid = parse_numbers(texts, NUMERIC[kind])
    if pc.any(invalid).as_py():
        invalid = pc.and_not(invalid, pc.match_substring_regex(texts, NAN).fill_null(False))
    return values, invalid


def is_list(data_type: pa.DataType) -> bool:
    """Return whether the Arrow type is a list."""
    return any(test(data_type) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def kind_of_field(column: pa.Field) -> Kind:
    """Return the kind of a Parquet column, or of its lists' values. Raises DataError for nested values."""
    data_type = column.type.value_type if is_list(column.type) else column.type
    data_type = data_type.value_type if pa.types.is_dictionary(data_type) else data_type
    if pa.types.is_nested(data_type):
        raise DataError(
            f"{column.name} is {column.type}; a tf.Example holds numbers, text, and lists of them: flatten it"
        )
    if pa.types.is_null(data_type):
        return "null"
    if pa.types.is_integer(data_type) or pa.types.is_boolean(data_type) or pa.types.is_timestamp(data_type):
        return "int64"
    return "float" if pa.types.is_floating(data_type) or pa.types.is_decimal(data_type) else "string"


def as_kind(values: pa.Array, kind: Kind) -> pa.Array:
    """Convert a Parquet column to the data set's kind; times stay times. Raises ArrowInvalid."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_fixed_size_list(values.type):
        values = values.cast(pa.list_(values.type.value_type))
    inner = values.type.value_type if is_list(values.type) else values.type
    is_of_kind = {
        "null": True,
        "int64": not pa.types.is_floating(inner) and not pa.types.is_decimal(inner),
        "float": pa.types.is_floating(inner),
        "string": pa.types.is_string(inner) or pa.types.is_binary(inner),
    }[kind]
    if is_of_kind or pa.types.is_null(inner):
        return values
    target = NUMERIC.get(kind, pa.binary() if pa.types.is_large_binary(inner) else pa.string())
    return values.cast(pa.list_(target) if is_list(values.type) else target)


def feature_lists(values: pa.Array) -> pa.Array:
    """Convert lists to lists of a tf.Example's types: int64, float32 or bytes."""
    if pa.types.is_null(values.type):
        return values  # no type yet: a later batch may have one
    inner = values.type.value_type
    target = pa.binary()
    if pa.types.is_integer(inner) or pa.types.is_boolean(inner):
        target = pa.int64()
    elif pa.types.is_floating(inner):
        target = pa.float32()
    return values if inner == target else values.cast(pa.list_(target))


def scalars(values: pa.Array) -> pa.Array:
    """Return the values of lists of at most one value; an empty list is null. Raises DataError for longer lists."""
    if not is_list(values.type):
        return values
    lengths = pc.list_value_length(values).fill_null(0).to_numpy()
    if lengths.max(initial=0) > 1:
        raise DataError("a column of lists cannot be an id: name other columns in --id-columns")
    positions = np.where(lengths > 0, np.cumsum(lengths) - 1, -1)
    return values.flatten().take(pa.array(positions, mask=positions < 0))
