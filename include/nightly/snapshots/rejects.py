"""Rejected rows, counted and written to a file with their reason: none is dropped silently."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nightly.records.snapshot import RejectedCount

SCHEMA = pa.schema(
    [
        ("reason", pa.string()),  # columns, quote, encoding, time, number, list, length, bytes, image, id or record
        ("column", pa.string()),  # "" if the whole row is at fault
        ("file", pa.string()),
        ("row", pa.int64()),  # the record's number in its file; a CSV header is number 1
        ("value", pa.string()),  # the unreadable value
        ("text", pa.string()),  # the row as CSV; bytes that are not UTF-8 as \xNN
    ]
)
FLUSH_ROWS = 10_000
EXAMPLE_LENGTH = 200


class Rejects:
    """A writer of rejected.parquet. The file appears on close, and only if a row was rejected."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._counts: dict[tuple[str, str], tuple[int, str]] = {}
        self._places: dict[tuple[str, str], str] = {}
        self._pending: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None
        self._temporary = path.with_name(f".{path.name}.part")

    def __enter__(self) -> "Rejects":
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, reason: str, column: str, *, file: str, row: int | None, value: str, text: str) -> None:
        rows, example = self._counts.get((reason, column), (0, value[:EXAMPLE_LENGTH]))
        self._counts[reason, column] = (rows + 1, example)
        self._places.setdefault((reason, column), f" in row {row} of {Path(file).name}")
        self.rows += 1
        self._pending.append(
            {"reason": reason, "column": column, "file": file, "row": row, "value": value, "text": text}
        )
        if len(self._pending) >= FLUSH_ROWS:
            self._flush()

    def counts(self) -> list[RejectedCount]:
        """Return the count of each fault, the most frequent first."""
        counts = [
            RejectedCount(reason=reason, column=column, rows=rows, example=example)
            for (reason, column), (rows, example) in self._counts.items()
        ]
        return sorted(counts, key=lambda count: -count.rows)

    def place(self, count: RejectedCount) -> str:
        """Return where the example of this fault is, for a message."""
        return self._places[count.reason, count.column]

    def close(self) -> None:
        if self._pending:
            self._flush()
        if self._writer:
            self._writer.close()
            self._writer = None
            self._temporary.replace(self.path)

    def _flush(self) -> None:
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._temporary, SCHEMA, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._pending, SCHEMA))
        self._pending = []
