"""SQLite, through its ADBC driver. A column of SQLite holds values of any type, so all are read as text, and BLOBs as
bytes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from nightly.io.hints import did_you_mean
from nightly.records.connection import Connection
from nightly.sources.errors import RefusedError, SourceError
from nightly.sources.sql.adbc import AdbcConnection
from nightly.sources.sql.database import CHECKSUMS, Bounds, Column, Kind, bound_in_order

BATCH = {"adbc.sqlite.query.batch_rows": "8192"}
KINDS: dict[str, Kind] = {"integer": "number", "real": "number", "text": "text"}


class SQLite:
    """A database file, opened for reading, in one read transaction."""

    substring = "SUBSTR"
    sorts_bytes = True
    checksum = CHECKSUMS["sqlite"]

    def __init__(self, connection: Connection) -> None:
        path = Path(connection.host or connection.database)
        self.name = f"sqlite:{path}"
        if not path.is_absolute():
            raise RefusedError(f"{self.name}: give the file's whole path, e.g. sqlite:////data/trips.db.")
        if not path.is_file():
            raise RefusedError(f"{path} does not exist, or is no file: correct the connection's path.")
        self._adbc = _Adbc("adbc_driver_sqlite", self.name, connection, f"file:{quote(str(path))}?mode=ro")

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def describe(self, query: str, guess: Bounds) -> list[Column]:
        # The type of a column is that of its first value: SQLite knows no other of a query's.
        names = self._adbc.empty(*self._bound(f"SELECT * FROM ({query}\n) WHERE 1 = 0", guess)).names
        for name in names:
            base = name.rsplit(":", 1)
            if len(base) == 2 and base[1].isdigit() and base[0] in names:  # as SQLite renames a name it has seen
                names[names.index(name)] = base[0]
        if len(set(names)) < len(names):
            return [Column(name, "other", "", "") for name in names]
        first = ", ".join(
            f"(SELECT typeof({name}) FROM source WHERE {name} IS NOT NULL LIMIT 1)" for name in map(self.quote, names)
        )
        types = next(self._stream(f"WITH source AS ({query}\n) SELECT {first}", guess)).to_pylist()[0].values()
        return [self._column(name, kind or self._unknown(guess)) for name, kind in zip(names, types, strict=True)]

    def rows(self, query: str, bounds: Bounds, columns: list[Column]) -> Iterator[pa.RecordBatch]:
        for batch in self._stream(query, bounds):
            if not columns:
                yield batch
                continue
            arrays = [
                pc.if_else(pc.equal(pc.binary_length(values), 0), None, values)
                for values in (
                    values.cast(pa.binary() if column.declared == "blob" else pa.string())
                    for values, column in zip(batch.columns, columns, strict=True)
                )
            ]
            yield pa.RecordBatch.from_arrays(arrays, batch.schema.names)

    def close(self) -> None:
        self._adbc.close()

    def _stream(self, query: str, bounds: Bounds) -> Iterator[pa.RecordBatch]:
        return self._adbc.stream(*self._bound(query, bounds), BATCH)

    def _bound(self, query: str, bounds: Bounds) -> tuple[str, list[Any]]:
        text = {name: value.isoformat(" ") if hasattr(value, "isoformat") else value for name, value in bounds.items()}
        return bound_in_order(query, text)

    def _unknown(self, guess: Bounds) -> str:
        """Return the type of a column without values: it is as good as that of the window's bounds."""
        return "integer" if all(isinstance(value, int) for value in guess.values()) else "text"

    def _column(self, name: str, kind: str) -> Column:
        raw = f"q.{self.quote(name)}"
        if kind == "blob":
            return Column(name, "other", f"COALESCE({raw}, x'')", raw, "blob")
        # The driver takes types from the first rows, so each value is text. Of a real number it is the shortest text
        # that is the same number, or 17 digits. A blank is a null.
        text = f"CAST({raw} AS TEXT)"
        real = f"CASE WHEN CAST({text} AS REAL) = {raw} THEN {text} ELSE printf('%!.17g', {raw}) END"
        read = f"COALESCE(CASE typeof({raw}) WHEN 'real' THEN {real} ELSE {text} END, '')"
        return Column(name, KINDS[kind], read, raw, "any")


class _Adbc(AdbcConnection):
    """An ADBC connection whose errors are SQLite's."""

    def explain(self, error: Exception, query: str) -> SourceError:
        text = str(error).split("\nquery:")[0]
        if "no such table: " in text:
            table = text.split("no such table: ")[1]
            hint = did_you_mean(table, self.tables(), otherwise="check the name")
            return RefusedError(f"{self.place} has no table {table!r}{hint}")
        reason = text.split("Failed to prepare query: ")[-1].removeprefix("[SQLite] ")
        if "database is locked" in text:
            return SourceError(f"{self.place} is locked by a writer. It is tried again.")
        return RefusedError(f"{self.place}: {self.secrets.masked(reason)}.")
