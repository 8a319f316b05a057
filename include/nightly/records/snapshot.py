"""A snapshot's manifest: what is in it, and the hash that is its name. And a delivery: what it was made from."""

from typing import Any

from pydantic import AwareDatetime, model_validator

from nightly.records.base import Contract


class SnapshotFile(Contract):
    name: str  # relative to the snapshot's folder
    rows: int
    bytes: int
    sha256: str


class RejectedCount(Contract):
    reason: str  # e.g. columns, encoding, time, number
    column: str  # "" where the whole row is at fault
    rows: int
    example: str  # the first such value or line, shortened

    @property
    def fault(self) -> str:
        """The reason and where it was, for a message."""
        return f"{self.reason!r} in {self.column}" if self.column else repr(self.reason)


class TruncatedBody(Contract):
    file: str
    reason: str  # how it ends, e.g. "its last row has 3 fields instead of 20"
    text: str = ""  # the beginning of the row that is cut


class UnnamedColumn(Contract):
    """A column whose header is blank, as pandas writes above its index."""

    file: str
    position: int  # from 1
    column: str  # the name that it has got


class Delivery(Contract):
    """What came for one night, before it was a snapshot.

    Two deliveries of the same rows, one of them with duplicates, make the same snapshot. So this is recorded with the
    night (SnapshotRef), and never with the snapshot.
    """

    rows: int = 0  # that could be read and lie in the window, duplicates included
    outside: int = 0  # that could be read and lie outside of the window
    oldest: AwareDatetime | None = None  # time of the oldest row that could be read, in the window or not
    newest: AwareDatetime | None = None
    duplicate_rows: int = 0  # rows with an id that was there already; the last one wins
    rejected: list[RejectedCount] = []
    truncated: list[TruncatedBody] = []
    without_newline: list[str] = []  # files of text whose last line has no newline
    unnamed: list[UnnamedColumn] = []

    @property
    def rejected_rows(self) -> int:
        return sum(count.rows for count in self.rejected)

    @property
    def extent(self) -> str:
        """From when to when its rows are, for a message."""
        if self.oldest is None or self.newest is None:
            return "nothing that was delivered has a row"
        rows = self.rows + self.outside
        return f"its {rows:,} rows are from {self.oldest:%Y-%m-%d %H:%M} to {self.newest:%Y-%m-%d %H:%M} UTC"


class SnapshotManifest(Contract):
    """Everything about an immutable snapshot. The id is the hash of its content: the same rows, the same id.

    The window, the source and the code are those of the night that made it first.
    """

    snapshot_id: str
    model: str
    rows: int
    window_start: AwareDatetime
    window_end: AwareDatetime
    first_row: AwareDatetime | None  # oldest and newest value of the time column
    last_row: AwareDatetime | None
    columns: dict[str, str]  # column -> string, int64, float or timestamp
    schema_fingerprint: str
    label_counts: dict[str, int]  # recorded values of the label column; "" counts the blank ones
    rows_by_day: dict[str, int] = {}  # ISO date in UTC -> rows; a day without rows is not in it
    files: list[SnapshotFile]
    source: list[str]  # origin of each body
    source_sha256: list[str]
    code_version: str
    created_at: AwareDatetime

    @model_validator(mode="before")
    @classmethod
    def _without_a_delivery(cls, data: Any) -> Any:
        """Older manifests have the counts of their first delivery, which say nothing about any other."""
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if key not in ("duplicate_rows", "rejected")}
        return data
