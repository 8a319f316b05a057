"""Parse columns as times and numbers: text strictly, and fast if the whole column is well-formed; typed values as
they are."""

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
FLOAT = pa.float32()  # of a tf.Example
PLAIN = {pa.int64(): r"^-?\d{1,18}$", pa.float64(): r"^-?\d+(\.\d+)?$"}


def parse_times(values: pa.Array, time_format: str, time_zone: str = "UTC") -> pa.TimestampArray:
    """Return the times in UTC; null for a blank or another format.

    :param values: dates or timestamps, or what `time_format` is the format of: text or whole numbers
    :param time_zone: of times without an offset
    :raises pa.ArrowInvalid: this machine does not know the time zone
    """
    if pa.types.is_temporal(values.type):
        times = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False)
        return times.cast(TYPES["timestamp"]) if times.type.tz else _in_utc(times, time_zone)
    if time_format in EPOCH_UNITS:
        numbers, _ = parse_numbers(values, pa.int64())
        unit = EPOCH_UNITS[time_format]
        bound = LAST_MOMENT // unit
        numbers = pc.if_else(pc.and_(pc.greater(numbers, -bound), pc.less(numbers, bound)), numbers, None)
        return pc.multiply(numbers, unit).cast(TYPES["timestamp"])
    texts = values.cast(pa.string())
    if time_format in ISO_FORMATS and pc.all(pc.equal(pc.utf8_length(texts), _length(time_format))).as_py():
        try:
            return _in_utc(texts.cast(pa.timestamp("us")), time_zone)
        except pa.ArrowInvalid:
            pass  # some are invalid: parse each below
    # Python's strptime rejects February 30, which Arrow's reads as March 1. Values repeat, so each is parsed once.
    encoded = texts.dictionary_encode()
    moments = [_microseconds(text, time_format) for text in encoded.dictionary.to_pylist()]
    times = pa.array(moments, pa.timestamp("us")).take(encoded.indices)
    return times.cast(TYPES["timestamp"]) if "%z" in time_format else _in_utc(times, time_zone)


def _in_utc(times: pa.TimestampArray, time_zone: str) -> pa.TimestampArray:
    """Return local times as moments. Of a time that the clocks show twice, the first; in a gap, the end of the gap."""
    if time_zone == "UTC":
        return times.cast(TYPES["timestamp"])
    return pc.assume_timezone(times, time_zone, ambiguous="earliest", nonexistent="latest").cast(TYPES["timestamp"])


def has_time_of_day(time_format: str) -> bool:
    """Return whether times of this format say more than the day."""
    if time_format in EPOCH_UNITS:
        return True
    moment = dt.datetime(2016, 2, 29, 13, 14, 15, tzinfo=dt.UTC)
    return dt.datetime.strptime(moment.strftime(time_format), time_format).time() != dt.time()


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


def are_finite(numbers: pa.Array, precision: pa.DataType = FLOAT) -> pa.BooleanArray:
    """Return whether each number is finite in `precision`, by default tf.Example's: there, 1e39 is infinite."""
    return pc.is_finite(numbers.cast(precision, safe=False))


def parse_numbers(
    texts: pa.Array, kind: pa.DataType, precision: pa.DataType = FLOAT
) -> tuple[pa.Array, pa.BooleanArray]:
    """Return the values as int64 or float64, and a mask of the values that are not numbers.

    A blank is null. 3.0 is a valid integer. nan, inf, and what is infinite in `precision`, are not numbers.

    :param texts: text, int64 or float64
    """
    if not pa.types.is_string(texts.type):
        return _typed_numbers(texts, kind, precision)
    try:
        values = texts.cast(kind)
    except pa.ArrowInvalid:
        plain = pc.match_substring_regex(texts, PLAIN[kind])
        values = pc.if_else(plain, texts, None).cast(kind)
        odd = pc.invert(plain).fill_null(False)
        parsed = [_number(text, kind) for text in texts.filter(odd).to_pylist()]
        values = pc.replace_with_mask(values, odd, pa.array(parsed, kind))
    if pa.types.is_floating(kind):
        values = pc.if_else(are_finite(values, precision), values, None)
    return values, pc.and_(texts.is_valid(), values.is_null())


def _typed_numbers(numbers: pa.Array, kind: pa.DataType, precision: pa.DataType) -> tuple[pa.Array, pa.BooleanArray]:
    """Do the same with numbers, whose shortest texts would give the same values."""
    values = numbers
    if pa.types.is_floating(kind):
        values = values.cast(kind, safe=False)
        values = pc.if_else(are_finite(values, precision), values, None)
    elif pa.types.is_floating(values.type):
        whole = pc.equal(pc.floor(values), values)
        inside = pc.and_(pc.greater_equal(values, float(-(2**63))), pc.less(values, float(2**63)))
        values = pc.if_else(pc.and_(whole, inside), values, None).cast(kind, safe=False)
    else:
        values = values.cast(kind)
    return values, pc.and_(numbers.is_valid(), values.is_null())


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
