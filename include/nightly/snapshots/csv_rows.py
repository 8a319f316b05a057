"""Read CSV as batches of text columns, and reject malformed rows and rows inside an unclosed quote."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from nightly.snapshots.body import MARKED, ROW, Body, RowTest, refuse_duplicates, unmark
from nightly.snapshots.errors import UnreadableBodyError
from nightly.snapshots.rejects import Rejects

BLOCK_BYTES = 2 << 20  # also the longest row; Arrow prefetches up to 32 blocks

# A sentinel row, which no file contains, follows the last row of each CSV. If it is not read as a separate row, the
# file ends inside a quoted value.
END = "\U0010f6ff"


class _Utf8(io.RawIOBase):
    """Valid UTF-8 from `raw`, without a byte order mark, with a final newline and the row END."""

    def __init__(self, raw: IO[bytes], body: Body) -> None:
        # `read1` returns what is available: truncated compressed data are read as far as they go.
        self._read = getattr(raw, "read1", raw.read)
        self._body = body
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("nightly.mark")
        self._buffered = memoryview(b"")
        self._last = b"\n"
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._buffered and not self._ended:
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
            self._buffered = memoryview(encoded)
        size = min(len(buffer), len(self._buffered))
        buffer[:size] = self._buffered[:size]
        self._buffered = self._buffered[size:]
        return size

    def _next(self) -> bytes:
        try:
            return self._read(1 << 20)
        except EOFError as error:  # from gzip or zip
            self._body.end(f"its compressed data end too early ({error})")
            return b""


def _end_row(body: Body) -> bytes:
    """Return the row END with a wrong number of fields, so that it is always an invalid row of `body`."""
    fields = 2 if len(body.headers) == 1 else 1
    return ",".join([END] * fields).encode() + b"\n"


def read_headers(body: Body) -> None:
    """Set the headers of a CSV stream. A blank header, as pandas writes above its index, gets a name.

    Raises UnreadableBodyError or ColumnError.
    """
    start = Body(body.name, "csv", body.open)
    with body.open() as raw, io.TextIOWrapper(io.BufferedReader(_Utf8(raw, start)), "utf-8", newline="") as text:
        headers = next((fields for fields in csv.reader(text) if fields), None)
    if not headers or headers == [END] or not any(map(str.strip, headers)):
        why = f": {start.truncated}" if start.truncated else ""
        raise UnreadableBodyError(f"{body.name} has no header line{why}; its first line must name the columns.")
    refuse_duplicates(body.name, [header for header in headers if header.strip()])
    for position, header in enumerate(headers, start=1):
        name = header if header.strip() else _generated_name(position, headers)
        body.headers.append(name)
        if name != header:
            body.unnamed[name] = header


def _generated_name(position: int, headers: list[str]) -> str:
    """Return an unused name for the unnamed column at `position`, counted from 1."""
    choices = (["index"] if position == 1 else []) + [f"column_{position}"]
    taken = {header.strip().lower() for header in headers}
    return next((choice for choice in choices if choice not in taken), f"column_{position}_without_name")


class _InvalidRows:
    """Arrow's handler for invalid rows: rejects them. A last row with too few fields means a truncated body."""

    def __init__(self, body: Body, rejects: Rejects, is_row: RowTest) -> None:
        self.numbers: list[int] = []
        self._body = body
        self._rejects = rejects
        self._is_row = is_row
        self._short: pa.csv.InvalidRow | None = None  # a row with too few fields that may be the last

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
        """Reject the pending short row: it was not the last one."""
        row, self._short = self._short, None
        if row:
            first, *swallowed = row.text.split("\n")
            value = f"{row.actual_columns} fields instead of {row.expected_columns}"
            self._rejects.add("columns", "", file=self._body.name, row=row.number, value=value, text=unmark(first))
            _reject_swallowed(self._body, swallowed, row.number, self._rejects, self._is_row)


def read_csv(body: Body, columns: dict[str, str], rejects: Rejects, is_row: RowTest) -> Iterator[pa.RecordBatch]:
    """Yield the body's rows as batches of text columns and ROW; `columns` maps headers to column names."""
    names = [columns[header] for header in body.headers]
    invalid = _InvalidRows(body, rejects, is_row)
    with body.open() as raw, io.BufferedReader(_Utf8(raw, body)) as utf8:
        reader = pa.csv.open_csv(
            utf8,
            pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),  # with threads, invalid rows have no number
            pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=invalid),
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys([*body.headers, *body.unnamed.values()], pa.string()),
                check_utf8=False,  # _Utf8 guarantees it
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
            complete = _without_cut_row(body, numbered, rejects, is_row)
            yield _without_unclosed_quotes(body, complete, rejects, is_row)
    invalid.reject_short()


def _without_cut_row(body: Body, batch: pa.RecordBatch, rejects: Rejects, is_row: RowTest) -> pa.RecordBatch:
    """Remove the last row if its last value, an unclosed quote, contains the row END."""
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
    """Return whether `body` is cut inside `value`, a quoted value that contains the row END.

    If the value's last line is a complete row, the body is not cut: a quote before it was never closed.
    """
    _, *lines = value[: value.index(END)].removesuffix("\n").split("\n")
    if lines and is_row(_fields(lines[-1])):
        return False
    body.end("it ends inside a quoted value, or a quote is never closed", text)
    _reject_swallowed(body, lines, row, rejects, is_row)
    return True


def _without_unclosed_quotes(body: Body, batch: pa.RecordBatch, rejects: Rejects, is_row: RowTest) -> pa.RecordBatch:
    """Reject each row with an unclosed quote, and the rows up to the next quote, which became part of its value."""
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
    """Reject those of `lines`, the text inside an unclosed quote, that are rows."""
    for line in lines:
        if is_row(_fields(line)):
            value = "inside of a quote that is not closed"
            rejects.add("quote", "", file=body.name, row=row, value=value, text=unmark(line))


def _fields(line: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r")]), [])


def as_csv(values: list[str | None]) -> str:
    """Return the values as a CSV line."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()
