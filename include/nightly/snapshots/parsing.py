"""Parse columns of text as times and numbers: strictly, and fast if the whole column is well-formed."""

import datetime as dt
import functools
import math
import re

import pyarrow as pa
import pyarrow.compute as pc

from nightly.snapshots.types import TYPES

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# Formats that Arrow's own parser reads strictly, so that distinct values need no separate parsing.
ISO_FORMATS = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")
EPOCH_UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1_000}  # in microseconds
LAST_MOMENT = 253_402_300_800_000_000  # the year 10000
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
PLAIN = {pa.int64(): r"^-?\d{1,18}$", pa.float64(): r"^-?\d+(\.\d+)?$"}


def parse_times(texts: pa.StringArray, time_format: str) -> pa.TimestampArray:
    """Return the times in UTC; null for a blank or another format. A time without a zone is UTC."""
    if time_format in EPOCH_UNITS:
        numbers, _ = parse_numbers(texts, pa.int64())
        unit = EPOCH_UNITS[time_format]
        bound = LAST_MOMENT // unit
        numbers = pc.if_else(pc.and_(pc.greater(numbers, -bound), pc.less(numbers, bound)), numbers, None)
        return pc.multiply(numbers, unit).cast(TYPES["timestamp"])
    if time_format in ISO_FORMATS and pc.all(pc.equal(pc.utf8_length(texts), _length(time_format))).as_py():
        try:
            return texts.cast(pa.timestamp("us")).cast(TYPES["timestamp"])
        except pa.ArrowInvalid:
            pass  # some are invalid: parse each below
    # Python's strptime rejects February 30, which Arrow's reads as March 1. Values repeat, so each is parsed once.
    encoded = texts.dictionary_encode()
    moments = [_microseconds(text, time_format) for text in encoded.dictionary.to_pylist()]
    return pa.array(moments, TYPES["timestamp"]).take(encoded.indices)


def _length(time_format: str) -> int:
    return len(EPOCH.strftime(time_format))


@functools.lru_cache(maxsize=1 << 16)
def _microseconds(text: str, time_format: str) -> int | None:
    try:
        moment = dt.datetime.strptime(text.strip(), time_format)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return (moment - EPOCH) // dt.timedelta(microseconds=1)


def parse_numbers(texts: pa.StringArray, kind: pa.DataType) -> tuple[pa.Array, pa.BooleanArray]:
    """Return the values as int64 or float64, and a mask of the texts that are not numbers.

    A blank is null. 3.0 is a valid integer. nan and inf are not numbers.
    """
    try:
        values = texts.cast(kind)
    except pa.ArrowInvalid:
        plain = pc.match_substring_regex(texts, PLAIN[kind])
        values = pc.if_else(plain, texts, None).cast(kind)
        odd = pc.invert(plain).fill_null(False)
        parsed = [_number(text, kind) for text in texts.filter(odd).to_pylist()]
        values = pc.replace_with_mask(values, odd, pa.array(parsed, kind))
    if pa.types.is_floating(kind):
        values = pc.if_else(pc.is_finite(values), values, None)
    return values, pc.and_(texts.is_valid(), values.is_null())


def _number(text: str, kind: pa.DataType) -> int | float | None:
    text = text.strip()
    if not NUMBER.fullmatch(text):
        return None
    if pa.types.is_floating(kind):
        return float(text) if math.isfinite(float(text)) else None
    number = int(text) if text.lstrip("+-").isdigit() else float(text)
    if not math.isfinite(number) or number != int(number) or not -(2**63) <= number < 2**63:
        return None
    return int(number)
