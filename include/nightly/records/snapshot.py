"""A snapshot's manifest, and the delivery that it was made from."""

from collections.abc import Collection
from typing import Any, ClassVar

from pydantic import AwareDatetime, model_validator

from nightly.records.base import Contract
from nightly.records.label_config import BinaryLabel, ClassesLabel, Kind, NumberLabel
from nightly.records.label_spec import LabelSummary

NUMBERS = "numbers"


class SnapshotFile(Contract):
    name: str  # relative to the snapshot's folder
    rows: int
    bytes: int
    sha256: str


class RejectedCount(Contract):
    reason: str  # e.g. columns, encoding, time, number
    column: str  # "" if the whole row is at fault
    rows: int
    example: str  # the first such value or line, shortened
    file: str = ""  # where the example is; "" in records of older versions
    row: int | None = None  # the record's number in that file

    @property
    def fault(self) -> str:
        """The reason and the column, for a message."""
        return f"{self.reason!r} in {self.column}" if self.column else repr(self.reason)

    @property
    def place(self) -> str:
        """The example and its row, for a message."""
        file = self.file.rpartition("/")[2]
        return repr(self.example) + (f" in row {self.row} of {file}" if self.row is not None else "")


class TruncatedBody(Contract):
    file: str
    reason: str  # e.g. "its last row has 3 fields instead of 20"
    text: str = ""  # the beginning of the cut row


class UnnamedColumn(Contract):
    """A column whose header is blank, as pandas writes above its index."""

    file: str
    position: int  # from 1
    column: str  # its generated name


class Delivery(Contract):
    """Counts of the rows delivered for one night, before they become a snapshot.

    Two different deliveries can make the same snapshot, e.g. if one has duplicates. So a delivery is recorded with the
    night (SnapshotRef), not with the snapshot.
    """

    rows: int = 0  # readable rows in the window, duplicates included
    not_known_yet: int = 0  # readable rows in the window that were known only after the as-of time; not in `rows`
    superseded: int = 0  # of `rows`, those of an id that has a row known later, which is kept
    outside: int = 0  # readable rows outside the window
    oldest: AwareDatetime | None = None  # time of the oldest readable row, in the window or outside
    newest: AwareDatetime | None = None
    duplicate_rows: int = 0  # rows with the id of another row, known at the same time; the last row is kept
    rejected: list[RejectedCount] = []
    truncated: list[TruncatedBody] = []
    without_newline: list[str] = []  # files of text whose last line has no newline
    unnamed: list[UnnamedColumn] = []

    @property
    def rejected_rows(self) -> int:
        return sum(count.rows for count in self.rejected)

    @property
    def as_known(self) -> str:
        """The words for the rows that were left out because of when they were known; "" if there are none."""
        parts = [f"{self.not_known_yet:,} rows known only after the as-of time"] if self.not_known_yet else []
        parts += [f"{self.superseded:,} earlier versions of rows"] if self.superseded else []
        return f"{' and '.join(parts)} were left out" if parts else ""

    @property
    def extent(self) -> str:
        """The number of readable rows and their time range, for a message."""
        rows = self.rows + self.not_known_yet + self.outside
        if not rows:
            return "nothing that was delivered has a row"
        later = f"{self.not_known_yet:,} rows were known only later" if self.not_known_yet else ""
        if self.oldest is None or self.newest is None:  # the rows have no time
            return later
        times = f"its {rows:,} rows are from {self.oldest:%Y-%m-%d %H:%M} to {self.newest:%Y-%m-%d %H:%M} UTC"
        return f"{times}, and {later}" if later else times


class CountedLabels(Contract):
    """The labels of a snapshot's rows, as one configured label counts them."""

    label_column: str = ""  # "" in records of older versions: the config's
    label_kind: Kind = "binary"  # binary labels and classes are counted alike
    label_counts: dict[str, int] = {}  # value of the label column -> rows; "" is blank; a number's values are NUMBERS
    label_quantiles: list[float] = []  # number: 0 %, 1 %, … 100 % of the labels

    def summary(
        self, label: BinaryLabel | ClassesLabel | NumberLabel, classes: Collection[str] = ()
    ) -> LabelSummary | None:
        """Return the summary of the recorded labels; None if another label was counted.

        :param classes: the only values that count as recorded; empty if all do
        """
        number = "number" in (self.label_kind, label.kind)
        if self.label_column not in ("", label.column) or (number and self.label_kind != label.kind):
            return None
        counts = {value: rows for value, rows in self.label_counts.items() if not classes or value in classes}
        return LabelSummary.of(label, counts, self.label_quantiles)


class SnapshotManifest(CountedLabels):
    """The manifest of an immutable snapshot, whose id is the hash of its content.

    The window, the source and the code are those of the first night that made the snapshot.
    """

    FILE: ClassVar = "manifest.json"  # in the snapshot's folder

    snapshot_id: str
    model: str
    rows: int
    window_start: AwareDatetime
    window_end: AwareDatetime
    first_row: AwareDatetime | None  # oldest and newest value of the time column; None without one
    last_row: AwareDatetime | None
    columns: dict[str, str]  # column -> string, int64, float or timestamp
    schema_fingerprint: str
    rows_by_day: dict[str, int] = {}  # ISO date in UTC -> rows; days without rows are absent
    files: list[SnapshotFile]
    source: list[str]  # origin of each body
    source_sha256: list[str]
    code_version: str
    created_at: AwareDatetime

    @model_validator(mode="before")
    @classmethod
    def _without_a_delivery(cls, data: Any) -> Any:
        """Drop the counts of the first delivery, which manifests of older versions have."""
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if key not in ("duplicate_rows", "rejected")}
        return data
