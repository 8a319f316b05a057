"""A snapshot's manifest: what is in it, where it came from, and the hash that is its name."""

from pydantic import AwareDatetime

from include.contracts.base import Contract


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


class SnapshotManifest(Contract):
    """Everything about an immutable snapshot. The id is the hash of its content: the same rows, the same id."""

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
    duplicate_rows: int  # rows with an id that was there already; the last one wins
    rejected: list[RejectedCount]
    files: list[SnapshotFile]
    source: list[str]  # origin of each body
    source_sha256: list[str]
    code_version: str
    created_at: AwareDatetime

    @property
    def rejected_rows(self) -> int:
        return sum(count.rows for count in self.rejected)
