"""Count a snapshot's labels, shard by shard, in bounded memory."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightly.records.label_config import Kind
from nightly.records.label_spec import OTHER
from nightly.records.snapshot import NUMBERS

PERCENT = 100
MAX_CLASSES = 10_000  # of more values, the rare ones are counted together: a column of ids has as many as rows


class LabelCounter:
    """Counts labels as the manifest has them. Numbers need 8 bytes a row, like a sort key of the rows."""

    def __init__(self, column: str, kind: Kind) -> None:
        self.column = column
        self.kind = kind
        self._counts: Counter[str] = Counter()
        self._numbers: list[np.ndarray] = []

    def add(self, labels: pa.ChunkedArray) -> None:
        if self.kind != "number":
            for item in pc.value_counts(labels.cast(pa.string())).to_pylist():
                self._counts[item["values"] or ""] += item["counts"]
            if self.kind == "classes" and len(self._counts) > MAX_CLASSES:
                self._keep_frequent()
            return
        if labels.null_count:
            self._counts[""] += labels.null_count
        if known := len(labels) - labels.null_count:
            self._counts[NUMBERS] += known
        if is_number(labels.type):
            numbers = labels.drop_null().to_numpy().astype(np.float64)
            self._numbers.append(numbers[np.isfinite(numbers)])

    @property
    def counts(self) -> dict[str, int]:
        return dict(sorted(self._counts.items()))

    @property
    def quantiles(self) -> list[float]:
        if not self._numbers:
            return []
        numbers = np.concatenate(self._numbers)
        numbers.sort()
        return quantiles(numbers, PERCENT)

    def _keep_frequent(self) -> None:
        frequent = Counter(dict(self._counts.most_common(MAX_CLASSES)))
        if blank := self._counts[""]:
            frequent[""] = blank
        frequent[OTHER] += self._counts.total() - frequent.total()
        self._counts = frequent


def quantiles(ordered: np.ndarray, parts: int) -> list[float]:
    """Return the smallest number and the upper end of each of `parts` equal parts; each is one of the numbers."""
    if not len(ordered):
        return []
    ends = np.ceil(np.arange(parts + 1) * len(ordered) / parts).astype(np.int64) - 1
    return [float(number) for number in ordered[np.maximum(ends, 0)]]


def is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)
