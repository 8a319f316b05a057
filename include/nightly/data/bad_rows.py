"""Unreadable rows: counted, the first few quoted, and never left out silently."""

import logging
from collections import Counter
from dataclasses import dataclass, field

from nightly.data.errors import DataError
from nightly.snapshots.body import unmark

log = logging.getLogger("nightly")

SHOWN = 3
LENGTH = 60  # characters of a value


@dataclass
class BadRows:
    """A replacement for nightly.snapshots.rejects.Rejects that keeps counts and the first examples only."""

    rows: int = 0
    reasons: Counter = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)

    def add(self, reason: str, column: str, *, file: str, row: int | None, value: str, text: str) -> None:
        self.rows += 1
        self.reasons[f"{reason} in {column}" if column else reason] += 1
        if len(self.shown) < SHOWN:
            self.shown.append(f"{file}:{row}" + (f", {column}" if column else "") + f": {unmark(value)[:LENGTH]!r}")

    @property
    def main_reason(self) -> str:
        """The most frequent reason; "" without bad rows."""
        return self.reasons.most_common(1)[0][0] if self.reasons else ""

    def check(self, name: str, kept: int, max_share: float) -> None:
        """Log the rows that are left out. Raises DataError if their share exceeds `max_share`.

        :param kept: number of readable rows
        """
        if not self.rows:
            return
        share = self.rows / (self.rows + kept)
        reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in self.reasons.most_common(5))
        title = f"{self.rows:,} of {self.rows + kept:,} rows of {name} cannot be read ({reasons}):"
        message = "\n  ".join([title, *self.shown])
        if share > max_share:
            raise DataError(
                f"{message}\nThat is {share:.2%}, and {max_share:.2%} are allowed. "
                "Fix them, or leave them out with --max-rejected-share (max_rejected_share=)."
            )
        log.warning("left out: %s", message)
