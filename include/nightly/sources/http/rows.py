"""Gather the pages of an answer into one body: CSV stays as it came, JSON becomes Parquet.

JSON's values become text, as CSV has them, so the same rows have the same snapshot. Only columns of true and false keep
their type. An object in a row becomes columns such as `address.city`; a list becomes its JSON text, as in CSV.
"""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa

from nightly.sources.errors import RefusedError, SourceError
from nightly.sources.http.json_document import DamagedJsonError, JsonDocument, JsonError
from nightly.sources.row_groups import write_parquet

BATCH = 10_000
MOST_COLUMNS = 5_000

_encode = json.JSONEncoder(ensure_ascii=False, default=float).encode  # 12.50 is 12.5, as JSON lines have it


@dataclass
class Page:
    """What one answer has.

    :ivar digest: of the rows
    :ivar rest: a JSON document without its rows
    """

    rows: int = 0
    digest: str = ""
    first: str = ""
    last: str = ""
    rest: dict[str, Any] = field(default_factory=dict)


class Body(Protocol):
    """The rows of a slice, page by page."""

    suffix: str

    def add(self, path: Path, origin: str) -> Page:
        """Take over the rows of the file at `path`, which is removed. Raises RefusedError."""
        ...

    def finish(self) -> None:
        """Write the target, or nothing if there are no rows."""
        ...


class CsvBody:
    """CSV pages, each with the same header. Without paging only their lines are counted, as rows."""

    suffix = ".csv"

    def __init__(self, target: Path, *, paged: bool) -> None:
        self.target, self.paged = target, paged
        self.header = b""
        self.has_rows = False
        target.unlink(missing_ok=True)

    def add(self, path: Path, origin: str) -> Page:
        with path.open("rb") as file:
            header = _csv_header(file)
            if header.lstrip(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
                raise RefusedError(f'{origin} answers JSON, not CSV: set format = "json" in [source].')
            start = file.tell()
            lines = sum(1 for line in file if line.strip())
            has_rows = lines > 0
            file.seek(start)
            page = _csv_page(file) if self.paged else Page(rows=lines)
            if self.header and header.strip() != self.header.strip() and has_rows:
                raise RefusedError(
                    f"{origin} has other columns than the page before: {_shown(header)} instead of "
                    f"{_shown(self.header)}. Each page needs the same header."
                )
            file.seek(start)
            if has_rows and self.has_rows:
                with self.target.open("rb+") as body:
                    body.seek(-1, io.SEEK_END)
                    if body.read(1) != b"\n":
                        body.write(b"\n")
                    shutil.copyfileobj(file, body)
                path.unlink()
            elif has_rows:
                path.replace(self.target)
            else:
                path.unlink()
        self.header = self.header or header
        self.has_rows |= has_rows
        return page

    def finish(self) -> None:
        pass


class JsonBody:
    """JSON pages, or pages of JSON lines."""

    suffix = ".parquet"

    def __init__(self, target: Path, *, lines: bool, place: str = "", omits_empty: bool = False) -> None:
        self.target, self.lines, self.place, self.omits_empty = target, lines, place, omits_empty
        self.spool = target.with_name(target.name + ".rows")  # the flat rows, since columns are known only at the end
        self.spool.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        self.booleans: dict[str, bool | None] = {}  # column -> whether all its values are true or false; None: no value

    def add(self, path: Path, origin: str) -> Page:
        page, digest, number = Page(), hashlib.sha256(), 0
        try:
            with path.open(encoding="utf-8-sig") as file, self.spool.open("a", encoding="utf-8") as spool:
                document = JsonDocument(file, self.place, omits_empty=self.omits_empty)
                for number, row in enumerate(_lines(file) if self.lines else document.rows(), 1):
                    if not isinstance(row, dict):
                        raise JsonError(f"row {number} is {_encode(row)[:60]}, and a row is an object")
                    text = _encode(self._flat(row))
                    spool.write(f"{text}\n")
                    digest.update(text.encode())
                    page.first, page.last = page.first or text, text
        except JsonError as error:
            damaged = isinstance(error, DamagedJsonError)
            hint = self._hint(path) if number == 0 or not damaged else ""
            kind = SourceError if damaged and not hint else RefusedError  # it may come whole another time
            raise kind(f"{origin} does not answer as [source] says: {error}{hint}.") from None
        except UnicodeDecodeError as error:
            raise RefusedError(f"{origin} is not UTF-8: {error}.") from None
        path.unlink()
        page.rows, page.digest, page.rest = number, digest.hexdigest(), document.rest
        return page

    def finish(self) -> None:
        columns = {
            name: boolean
            for name, boolean in self.booleans.items()  # `a` is no column if it is null where it is no object
            if boolean is not None or not any(other.startswith(f"{name}.") for other in self.booleans)
        }
        kinds = {name: pa.bool_() if boolean else pa.string() for name, boolean in columns.items()}
        write_parquet(self.target, self._batches(pa.schema(list(kinds.items()))))
        self.spool.unlink(missing_ok=True)

    def _flat(self, row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, value in row.items():
            name = prefix + key
            if isinstance(value, dict):
                flat |= self._flat(value, f"{name}.")
                continue
            if self.booleans.get(name) is not False:
                self._note(name, value)
            flat[name] = value
        return flat

    def _note(self, name: str, value: Any) -> None:
        """Record whether a column has had only booleans so far, given its next value."""
        if name not in self.booleans and len(self.booleans) == MOST_COLUMNS:
            raise JsonError(f"the rows have more than {MOST_COLUMNS:,} different keys, such as {name}")
        self.booleans[name] = self.booleans.get(name) if value is None else isinstance(value, bool)

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with self.spool.open(encoding="utf-8") as spool:
            while lines := list(zip(range(BATCH), spool)):  # noqa: B905
                rows = [json.loads(line) for _, line in lines]
                arrays = [pa.array([_value(row.get(f.name), f.type) for row in rows], f.type) for f in schema]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _hint(self, path: Path) -> str:
        with path.open("rb") as file:
            start = file.read(200).lstrip(b"\xef\xbb\xbf \t\r\n")
        if start[:1] in (b"{", b"["):
            return "" if not self.lines else ' (if it is one JSON document, set format = "json")'
        return f'; it begins {start[:60].decode(errors="replace")!r} (if that is CSV, set format = "csv")'


def _value(value: Any, kind: pa.DataType) -> Any:
    if value is None or isinstance(value, str) or pa.types.is_boolean(kind):
        return value
    return repr(value) if type(value) in (int, float) else _encode(value)  # 1.5, true, [1, 2]


def _lines(file: IO[str]) -> Iterator[Any]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                raise DamagedJsonError(f"line {number} is no JSON: {line.strip()[:60]!r}") from None


def _csv_header(file: IO[bytes]) -> bytes:
    """Read the first row, which may have line breaks inside quotes."""
    header = file.readline()
    while header.count(b'"') % 2 and (line := file.readline()):
        header += line
    return header


def _csv_page(file: IO[bytes]) -> Page:
    """Return the digest, the number, the first and the last of the rows from here on."""
    start = file.tell()
    page = Page(digest=hashlib.file_digest(file, "sha256").hexdigest())
    file.seek(start)
    text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
    for row in csv.reader(text):
        if any(row):
            page.rows += 1
            page.last = repr(row)
            page.first = page.first or page.last
    text.detach()
    return page


def _shown(header: bytes) -> str:
    return repr(header.decode(errors="replace").strip()[:120])
