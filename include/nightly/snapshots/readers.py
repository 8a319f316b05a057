"""Bodies as batches of text columns, whatever they were: CSV (plain, gzip, zip) or TFRecord of tf.Example.

Every value is a string or null (a blank is null); typing them is the ingest's work, the same for all.
"""

import codecs
import contextlib
import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from nightly.examples.tfrecord import CHECKSUM, LENGTH, masked_crc
from nightly.snapshots.errors import ColumnError, UnreadableBodyError
from nightly.snapshots.rejects import EXAMPLE_LENGTH, Rejects
from nightly.sources.files import csv_members, kind_of

ROW = "__row"  # each batch's extra column: the record's number in its file, the header being 1
BLOCK_BYTES = 2 << 20  # also the longest row; Arrow reads up to 32 of them ahead
RECORDS = 10_000
RowTest = Callable[[list[str]], bool]  # whether fields are a row

# A byte that is not UTF-8 becomes one of 128 private characters, so that the CSV parser goes on and the row is found.
_MARK = 0x10F700
MARKED = "[\U0010f780-\U0010f7ff]"


def _mark(error: UnicodeError) -> tuple[str, int]:
    return "".join(chr(_MARK + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("nightly.mark", _mark)


def unmark(text: str) -> str:
    """The marked bytes as \\xNN, for people."""
    return re.sub(MARKED, lambda found: f"\\x{ord(found[0]) - _MARK:02x}", text)


# A row that no file has is added at the end of each CSV. It is read as a row of its own, right after the file's last
# one, unless the file ends inside of a quoted value.
END = "\U0010f6ff"


@dataclass
class Body:
    """One CSV or TFRecord stream: a file, or a member of an archive. What follows `headers` is known as it is read."""

    name: str
    kind: str
    open: Callable[[], IO[bytes]]
    headers: list[str] = field(default_factory=list)  # as in the file, where they are not blank
    unnamed: dict[str, str] = field(default_factory=dict)  # each header that has got a name here -> as in the file
    marked: bool = False  # has a byte that is not UTF-8 been seen
    without_newline: bool = False  # does its last line end without one
    truncated: str = ""  # how it ends, where that is in the middle of a row
    cut_row: str = ""  # the beginning of that row

    def end(self, reason: str, row: str = "") -> None:
        """Note that the body is truncated; the first reason is the cause of the others."""
        self.truncated = self.truncated or reason
        self.cut_row = self.cut_row or unmark(row.split("\n")[0])[:EXAMPLE_LENGTH]


def bodies(path: Path) -> Iterator[Body]:
    """The streams in a file, with their headers. Raises UnreadableBodyError or ColumnError."""
    streams: list[tuple[str, Callable[[], IO[bytes]]]] = [(str(path), partial(path.open, "rb"))]
    if path.suffix.lower() == ".gz":
        streams = [(str(path), partial(gzip.open, path, "rb"))]
    elif path.suffix.lower() == ".zip":
        with _readable(str(path)), zipfile.ZipFile(path) as archive:
            members = csv_members(archive)
        streams = [(f"{path}:{member}", partial(_member, path, member)) for member in members]
    kind = kind_of(path.name)
    if kind is None:
        raise UnreadableBodyError(f"{path} is neither CSV nor TFRecord by its name.")
    for name, opened in streams:
        body = Body(name, kind, opened)
        with _readable(name):
            if kind == "csv":
                _read_headers(body)
            else:
                body.headers = _feature_names(body)
        yield body


def csv_body(name: str, opened: Callable[[], IO[bytes]]) -> Body:
    """A CSV stream that is no local file; gzip where its name ends so. Raises UnreadableBodyError or ColumnError."""
    unpacked = (lambda: gzip.GzipFile(fileobj=opened())) if name.lower().endswith(".gz") else opened
    body = Body(name, "csv", unpacked)
    with _readable(name):
        _read_headers(body)
    return body


def read(body: Body, columns: dict[str, str], rejects: Rejects, is_row: RowTest) -> Iterator[pa.RecordBatch]:
    """The rows of `body` as strings, in batches; what is no row goes to `rejects`.

    `columns` maps the body's headers to column names. `is_row` tells whether fields, in the body's order, are a row of
    this body: it finds the rows that an unclosed quote has swallowed. A row that is cut by the end of the body is left
    out, and `body.truncated` says so afterwards. Raises UnreadableBodyError.
    """
    with _readable(body.name):
        if body.kind == "csv":
            yield from _read_csv(body, columns, rejects, is_row)
        else:
            yield from _read_records(body, columns, rejects)


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UnreadableBodyError(f"{error.filename} is gone; run the download again.") from error
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UnreadableBodyError(f"{name} cannot be read to its end: {error}") from error
    except pa.ArrowInvalid as error:
        longest = f"a row is longer than {BLOCK_BYTES >> 20} MiB"
        hint = f"; a quote is never closed, or {longest}" if "straddling" in str(error) else ""
        raise UnreadableBodyError(f"{name} is not CSV{hint}: {error}") from error


def _member(path: Path, member: str) -> IO[bytes]:
    archive = zipfile.ZipFile(path)
    opened = archive.open(member)
    archive.close()  # stays open until its member is closed
    return opened


class _Utf8(io.RawIOBase):
    """The bytes of `raw` as valid UTF-8, without a byte order mark and with a newline at the end; then the row END."""

    def __init__(self, raw: IO[bytes], body: Body) -> None:
        # What there is, not full buffers: compressed data that end too early are read up to there.
        self._read = getattr(raw, "read1", raw.read)
        self._body = body
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("nightly.mark")
        self._left = memoryview(b"")
        self._last = b"\n"
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._left and not self._ended:
            data = self._next()
            self._ended = not data
            if self._ended and self._decoder.getstate()[0]:
                self._body.end("it ends in the middle of a character")
            text = self._decoder.decode(data, final=self._ended)
            if not self._body.marked and not text.isascii():
                self._body.marked = re.search(MARKED, text) is not None
            encoded = text.encode()
            self._last = encoded[-1:] or self._last
            if self._ended:
                self._body.without_newline = self._last not in b"\r\n"
                encoded += b"\n" * (self._last != b"\n") + _end_row(self._body)
            self._left = memoryview(encoded)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def _next(self) -> bytes:
        try:
            return self._read(1 << 20)
        except EOFError as error:  # of gzip and zip
            self._body.end(f"its compressed data end too early ({error})")
            return b""


def _end_row(body: Body) -> bytes:
    """The row END, with a number of fields that no row of `body` has."""
    fields = 2 if len(body.headers) == 1 else 1
    return ",".join([END] * fields).encode() + b"\n"


def _read_headers(body: Body) -> None:
    """Set the headers of a CSV stream; a blank one, as pandas writes above its index, gets a name."""
    start = Body(body.name, "csv", body.open)
    with body.open() as raw, io.TextIOWrapper(io.BufferedReader(_Utf8(raw, start)), "utf-8", newline="") as text:
        headers = next((fields for fields in csv.reader(text) if fields), None)
    if not headers or headers == [END] or not any(map(str.strip, headers)):
        why = f": {start.truncated}" if start.truncated else ""
        raise UnreadableBodyError(f"{body.name} has no header line{why}; its first line must name the columns.")
    twice = sorted({header for header in headers if header.strip() and headers.count(header) > 1})
    if twice:
        raise ColumnError(f"{body.name}: the header {twice[0]!r} is there twice; rename one, or leave it out.")
    for position, header in enumerate(headers, start=1):
        name = header if header.strip() else _name_of(position, headers)
        body.headers.append(name)
        if name != header:
            body.unnamed[name] = header


def _name_of(position: int, headers: list[str]) -> str:
    """Return a name for the column at `position`, from 1, that has none and that no other column has."""
    choices = (["index"] if position == 1 else []) + [f"column_{position}"]
    taken = {header.strip().lower() for header in headers}
    return next((choice for choice in choices if choice not in taken), f"column_{position}_without_name")


class _InvalidRows:
    """Takes what Arrow finds to be no row of `body`, and rejects it; a last row with too few fields is a cut one."""

    def __init__(self, body: Body, rejects: Rejects, is_row: RowTest) -> None:
        self.numbers: list[int] = []
        self._body = body
        self._rejects = rejects
        self._is_row = is_row
        self._short: pa.csv.InvalidRow | None = None  # with too few fields, and no row after it so far

    def __call__(self, row: pa.csv.InvalidRow) -> str:
        self.numbers.append(row.number)
        if row.text.startswith(END):
            if self._short and self._short.number == row.number - 1:
                reason = f"its last row has {self._short.actual_columns} fields instead of {row.expected_columns}"
                self._body.end(reason, self._short.text)
                self._short = None
            return "skip"
        self.reject_short()
        if END in row.text and _ends_in_quote(self._body, row.text, row.text, row.number, self._rejects, self._is_row):
            return "skip"
        self._short = row
        if row.actual_columns > row.expected_columns or END in row.text:
            self.reject_short()
        return "skip"

    def reject_short(self) -> None:
        """Reject the row that was not known to be the last."""
        row, self._short = self._short, None
        if row:
            first, *swallowed = row.text.split("\n")
            value = f"{row.actual_columns} fields instead of {row.expected_columns}"
            self._rejects.add("columns", "", file=self._body.name, row=row.number, value=value, text=unmark(first))
            _reject_swallowed(self._body, swallowed, row.number, self._rejects, self._is_row)


def _read_csv(body: Body, columns: dict[str, str], rejects: Rejects, is_row: RowTest) -> Iterator[pa.RecordBatch]:
    names = [columns[header] for header in body.headers]
    invalid = _InvalidRows(body, rejects, is_row)
    with body.open() as raw, io.BufferedReader(_Utf8(raw, body)) as utf8:
        reader = pa.csv.open_csv(
            utf8,
            pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),  # threads lose the rows' numbers
            pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=invalid),
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys([*body.headers, *body.unnamed.values()], pa.string()),
                check_utf8=False,  # it is
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        number = 2
        for batch in reader:
            numbers = np.arange(number, number + batch.num_rows + len(invalid.numbers))
            numbers = numbers[~np.isin(numbers, invalid.numbers)][: batch.num_rows]
            if batch.num_rows:
                number = int(numbers[-1]) + 1
                invalid.numbers = [row for row in invalid.numbers if row >= number]
            numbered = pa.RecordBatch.from_arrays([*batch.columns, pa.array(numbers, pa.int64())], [*names, ROW])
            whole = _without_cut_row(body, numbered, rejects, is_row)
            yield _without_swallowers(body, whole, rejects, is_row)
    invalid.reject_short()


def _without_cut_row(body: Body, batch: pa.RecordBatch, rejects: Rejects, is_row: RowTest) -> pa.RecordBatch:
    """A quoted value in the last column that does not end has the row END in it."""
    if not batch.num_rows:
        return batch
    last = batch.slice(batch.num_rows - 1).to_pylist()[0]
    number, value = last.pop(ROW), last[batch.schema.names[-2]] or ""
    if END not in value:
        return batch
    text = as_csv(list(last.values()))
    cut = _ends_in_quote(body, value, text, number, rejects, is_row)
    return batch.slice(0, batch.num_rows - 1) if cut else batch


def _ends_in_quote(body: Body, value: str, text: str, row: int, rejects: Rejects, is_row: RowTest) -> bool:
    """Whether `value`, quoted and with the row END in it, is where `body` is cut.

    It is not where its last line is a whole row: then a quote is not closed somewhere before the end.
    """
    _, *lines = value[: value.index(END)].removesuffix("\n").split("\n")
    if lines and is_row(_fields(lines[-1])):
        return False
    body.end("it ends inside a quoted value, or a quote is never closed", text)
    _reject_swallowed(body, lines, row, rejects, is_row)
    return True


def _without_swallowers(body: Body, batch: pa.RecordBatch, rejects: Rejects, is_row: RowTest) -> pa.RecordBatch:
    """An unclosed quote makes one value of the rows up to the next quote: find and reject what is in there."""
    commas = batch.num_columns - 2
    good = np.ones(batch.num_rows, bool)
    for name in batch.schema.names[:-1]:
        column = batch.column(name)
        if not pc.any(pc.match_substring(column, "\n")).as_py():
            continue
        suspects = pc.match_substring_regex(column, f"\n(?:[^\n,]*,){{{commas}}}").fill_null(False)
        for index in np.flatnonzero(suspects.to_numpy(zero_copy_only=False) & good):
            row = batch.slice(index, 1).to_pylist()[0]
            number = row.pop(ROW)
            first, *rest = row[name].split("\n")
            if any(is_row(_fields(line)) for line in rest):
                good[index] = False
                text = unmark(as_csv(list((row | {name: first}).values())))
                rejects.add("quote", name, file=body.name, row=number, value=unmark(first), text=text)
                _reject_swallowed(body, rest, number, rejects, is_row)
    return batch if good.all() else batch.filter(pa.array(good))


def _reject_swallowed(body: Body, lines: list[str], row: int, rejects: Rejects, is_row: RowTest) -> None:
    for line in lines:
        if is_row(_fields(line)):
            value = "inside of a quote that is not closed"
            rejects.add("quote", "", file=body.name, row=row, value=value, text=unmark(line))


def _fields(line: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r")]), [])


def as_csv(values: list[str | None]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def _records(body: Body) -> Iterator[tuple[bytes, bool]]:
    """Each record, and whether its checksum is right."""
    with body.open() as file:
        try:
            while header := file.read(12):
                if len(header) == 12 and masked_crc(header[:8]) != CHECKSUM.unpack(header[8:])[0]:
                    raise UnreadableBodyError(
                        f"{body.name} is not TFRecord, or is damaged beyond the record that ends there."
                    )
                data = file.read(LENGTH.unpack(header[:8])[0]) if len(header) == 12 else b""
                footer = file.read(4)
                if len(footer) < 4:
                    body.end("it ends in the middle of a record")
                    return
                yield data, masked_crc(data) == CHECKSUM.unpack(footer)[0]
        except EOFError as error:
            body.end(f"its compressed data end too early ({error})")


def _examples(body: Body, rejects: Rejects | None) -> Iterator[pa.RecordBatch]:
    """Batches of list columns, as tf.Example has them, and the records' numbers."""
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder  # 0.3 s, for this kind of body only

    decoder = ExamplesToRecordBatchDecoder()

    def decode(serialized: list[bytes], numbers: list[int]) -> Iterator[pa.RecordBatch]:
        try:
            batch = decoder.DecodeBatch(serialized)
        except Exception as error:  # pybind11 gives RuntimeError or ValueError
            if len(serialized) == 1:
                if rejects:
                    rejects.add(
                        "record", "", file=body.name, row=numbers[0], value=str(error), text=repr(serialized[0])
                    )
                return
            half = len(serialized) // 2
            yield from decode(serialized[:half], numbers[:half])
            yield from decode(serialized[half:], numbers[half:])
        else:
            yield batch.append_column(ROW, pa.array(numbers, pa.int64()))

    serialized, numbers = [], []
    for number, (data, whole) in enumerate(_records(body), start=1):
        if whole:
            serialized.append(data)
            numbers.append(number)
        elif rejects:
            rejects.add("record", "", file=body.name, row=number, value="the checksum is wrong", text=repr(data))
        if len(serialized) == RECORDS:
            yield from decode(serialized, numbers)
            serialized, numbers = [], []
    if serialized:
        yield from decode(serialized, numbers)


def _feature_names(body: Body) -> list[str]:
    """Every feature of any example: a whole pass, since an example leaves out what it does not have."""
    found: dict[str, None] = {}
    for batch in _examples(body, None):
        found |= dict.fromkeys(batch.schema.names)
    return [feature for feature in found if feature != ROW]


def _read_records(body: Body, columns: dict[str, str], rejects: Rejects) -> Iterator[pa.RecordBatch]:
    for batch in _examples(body, rejects):
        single = pa.array(np.ones(batch.num_rows, bool))
        for header in batch.schema.names[:-1]:
            lengths = pc.list_value_length(batch.column(header)).fill_null(0)
            several = pc.and_(pc.greater(lengths, 1), single)
            for row in batch.filter(several).to_pylist():
                value = f"{len(row[header])} values in {header}"
                number = row.pop(ROW)
                rejects.add("columns", columns[header], file=body.name, row=number, value=value, text=str(row))
            single = pc.and_(single, pc.invert(several))
        batch = batch.filter(single)
        arrays = [_text(batch.column(header), body) for header in batch.schema.names[:-1]]
        names = [columns[header] for header in batch.schema.names[:-1]]
        yield pa.RecordBatch.from_arrays([*arrays, batch.column(ROW)], [*names, ROW])


def _text(lists: pa.Array, body: Body) -> pa.StringArray:
    """Lists of at most one value -> the values as text; empty ones and blanks are null."""
    if pa.types.is_null(lists.type) or not len(lists):
        return pa.nulls(len(lists), pa.string())
    present = pc.greater(pc.list_value_length(lists).fill_null(0), 0)
    places = pc.if_else(present, pc.subtract(pc.cumulative_sum(present.cast(pa.int64())), 1), None)
    values = lists.filter(present).flatten()
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        try:
            values = values.cast(pa.string())
        except pa.ArrowInvalid:
            body.marked = True
            values = pa.array([value.decode("utf-8", "nightly.mark") for value in values.to_pylist()], pa.string())
    values = values.cast(pa.string()).take(places)
    return pc.if_else(pc.equal(values, ""), None, values)
