"""Rejected rows, counted and written to a file with their reason: none is dropped silently."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nightly.records.snapshot import RejectedCount

SCHEMA = pa.schema(
    [
        ("reason", pa.string()),  # columns, quote, encoding, time, number, id or record
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
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], dict[str, Any]] = {}
        self._pending: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None
        self._temporary = path.with_name(f".{path.name}.part")

    def __enter__(self) -> "Rejects":
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, reason: str, column: str, *, file: str, row: int | None, value: str, text: str) -> None:
        self._counts[reason, column] += 1
        self._examples.setdefault((reason, column), {"example": value[:EXAMPLE_LENGTH], "file": file, "row": row})
        self.rows += 1
        self._pending.append(
            {"reason": reason, "column": column, "file": file, "row": row, "value": value, "text": text}
        )
        if len(self._pending) >= FLUSH_ROWS:
            self._flush()

    def counts(self) -> list[RejectedCount]:
        """Return the count of each fault, the most frequent first."""
        counts = [
            RejectedCount(reason=reason, column=column, rows=rows, **self._examples[reason, column])
            for (reason, column), rows in self._counts.items()
        ]
        return sorted(counts, key=lambda count: -count.rows)

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
