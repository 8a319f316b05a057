"""The evidence that the checks read."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from nightly.checks.label_rows import ByValue, count_again, frequent_values, label_by_value
from nightly.records.baseline import Control
from nightly.records.config import DataGate, ModelConfig
from nightly.records.label_config import BinaryLabel
from nightly.records.label_spec import LabelSummary
from nightly.records.night import Night
from nightly.records.snapshot import CountedLabels, Delivery, SnapshotManifest
from nightly.schemas.curated import recorded_classes
from nightly.snapshots.labels import is_number
from nightly.snapshots.types import is_text
from nightly.statistics.serving import Requests
from nightly.statistics.sizes import comparable

Features = dict[str, statistics_pb2.FeatureNameStatistics]
EXAMPLES = 3  # rows that a finding refers to
VALUES = 50  # labels are counted for the most frequent values of each feature


@dataclass(frozen=True)
class Measured:
    """Statistics by feature, of one of the night's splits or of a control."""

    examples: int
    features: Features

    @classmethod
    def of(cls, statistics: statistics_pb2.DatasetFeatureStatisticsList) -> "Measured":
        dataset = comparable(statistics).datasets[0]
        return cls(int(dataset.num_examples), {".".join(f.path.step) or f.name: f for f in dataset.features})


@dataclass
class Matches:
    """Rows that have a fault."""

    rows: int = 0
    value: str = ""  # in the first of them; "" is blank
    references: list[str] = field(default_factory=list)  # FILE:ROW, of the first few


@dataclass(frozen=True)
class SnapshotRows:
    """The rows of a snapshot, for references to examples and for what statistics do not hold."""

    folder: Path

    def numbers(self, column: str) -> np.ndarray:
        """Return every number in the column; an empty array if it is not numeric."""
        parts = [np.empty(0)]
        for path in sorted(self.folder.glob("rows-*.parquet")):
            schema = pq.read_schema(path)
            if column not in schema.names or not is_number(schema.field(column).type):
                return parts[0]
            parts.append(pq.read_table(path, columns=[column])[column].drop_null().to_numpy())
        return np.concatenate(parts[1:] or parts)

    def examples(self, column: str, test: Callable[[pa.Array], pa.Array], *, lists: bool = False) -> list[str]:
        """Return references, FILE:ROW, to the first rows for which `test` of the column is true.

        :param lists: test lists themselves, and not whether any of their values passes
        """
        references: list[str] = []
        for path in sorted(self.folder.glob("rows-*.parquet")):
            file = pq.ParquetFile(path)
            if column not in file.schema_arrow.names:
                return []
            values = file.read(columns=[column]).column(0).combine_chunks()
            mask = test(values) if lists else any_value(values, test)
            positions = pc.indices_nonzero(mask.fill_null(False))
            rows = positions.slice(0, EXAMPLES - len(references)).to_pylist()
            references += [f"{path.name}:{row}" for row in rows]
            if len(references) >= EXAMPLES:
                break
        return references

    def find(self, columns: list[str], test: Callable[..., pa.Array]) -> "Matches":
        """Return the rows for which `test` of the columns is true, with the first column's value in the first row."""
        matches = Matches()
        for path in sorted(self.folder.glob("rows-*.parquet")):
            file = pq.ParquetFile(path)
            if not set(columns) <= set(file.schema_arrow.names):
                return matches
            table = file.read(columns=columns).combine_chunks()
            arrays = [table[name].combine_chunks() for name in columns]
            positions = pc.indices_nonzero(test(*arrays).fill_null(False)).to_pylist()
            if positions and not matches.rows:
                matches.value = "" if (value := arrays[0][positions[0]].as_py()) is None else str(value)
            matches.references += [f"{path.name}:{row}" for row in positions[: EXAMPLES - len(matches.references)]]
            matches.rows += len(positions)
        return matches

    def having(self, column: str, values: list[str]) -> list[str]:
        """Return references to rows with any of `values`."""
        return self.examples(column, lambda array: pc.is_in(array.cast(pa.string()), pa.array(values, pa.string())))

    def between(self, column: str, low: float, high: float) -> list[str]:
        """Return references to rows with low <= number <= high."""
        return self.examples(column, lambda array: pc.and_(pc.greater_equal(array, low), pc.less_equal(array, high)))

    def missing(self, column: str) -> list[str]:
        return self.examples(column, lambda array: array.is_null(), lists=True)


@dataclass(frozen=True)
class Compared:
    """A control with its statistics, TFDV's distances to it, and its rows.

    The other fields are None if the control is missing. `rows` is also None if its snapshot was removed or is damaged.
    """

    control: Control
    train: Measured | None = None
    distances: anomalies_pb2.Anomalies | None = None
    rows: SnapshotRows | None = None
    eval: Measured | None = None


@dataclass(frozen=True)
class Served:
    """Logged requests and the training rows of the same days; only `about` is set if `about.missing` gives a reason."""

    about: Requests
    requests: Measured | None = None
    training: Measured | None = None
    distances: anomalies_pb2.Anomalies | None = None


def any_value(column: pa.Array, test: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Return a mask of the rows whose value, or any value of whose list, passes `test`. Bytes never pass."""
    if pa.types.is_binary(column.type):
        return pa.array(np.zeros(len(column), bool))
    if not pa.types.is_list(column.type):
        return test(column)
    rows = np.repeat(np.arange(len(column)), pc.list_value_length(column).fill_null(0).to_numpy())
    passing = any_value(column.flatten(), test).fill_null(False).to_numpy(zero_copy_only=False)
    return pa.array(np.isin(np.arange(len(column)), rows[passing]))


@dataclass(frozen=True)
class Evidence:
    """Everything that the data gate knows about a night's data."""

    config: ModelConfig
    night: Night
    manifest: SnapshotManifest
    delivery: Delivery | None  # None: not recorded
    schema: schema_pb2.Schema
    rows: SnapshotRows
    train: Measured
    eval: Measured
    anomalies: dict[str, anomalies_pb2.Anomalies]  # split -> ExampleValidator's anomalies
    skew: anomalies_pb2.Anomalies  # train against eval
    compared: list[Compared] = field(default_factory=list)
    serving: Served | None = None
    rows_accepted: list[int] = field(default_factory=list)  # of the last accepted snapshots

    @property
    def gate(self) -> DataGate:
        return self.config.data_gate

    @property
    def present(self) -> list[Compared]:
        return [compared for compared in self.compared if compared.train is not None]

    @property
    def newest_days(self) -> "Evidence | None":
        """The same evidence, but of the eval splits, if they are the newest days; else None.

        The newest days are the likeliest to have a fault, and train splits by time lack them.
        """
        if self.config.data.eval != "newest":
            return None
        compared = [replace(each, train=each.eval, distances=None) for each in self.compared]
        return replace(self, train=self.eval, compared=compared)

    @property
    def window(self) -> tuple[dt.datetime, dt.datetime]:
        """The night's window; the end is exclusive. The manifest's window is of the first night with these rows."""
        return self.night.window_start, self.night.as_of - dt.timedelta(days=self.config.data.late_days)

    def allowed(self, key: str, control: Control) -> float:
        """Return the threshold `key` of [data_gate], scaled for `control`."""
        return getattr(self.gate, key) * control.factor

    def beside(self, compared: "Compared") -> dict[str, Any]:
        """Return the details of a finding about the train split and a control: which one, and on how many rows."""
        return {
            "control": compared.control.name,
            "sample": min(self.train.examples, compared.train.examples),
            "enough": self.gate.min_rows_for_distance,
        }

    @cached_property
    def classes(self) -> frozenset[str]:
        """The only values of the label that count as recorded; empty if all do."""
        return recorded_classes(self.schema, self.config.data.label)

    @property
    def positive(self) -> list[str]:
        """The values of a binary label that count as positive; [] for other kinds."""
        label = self.config.data.label
        return label.positive if isinstance(label, BinaryLabel) else []

    @cached_property
    def labels(self) -> CountedLabels:
        """The labels of all rows, counted by value."""
        label = self.config.data.label
        fits = self.manifest.summary(label) is not None
        return self.manifest if fits else count_again(self.rows.folder, label)

    @cached_property
    def label(self) -> LabelSummary:
        """The recorded labels."""
        summary = self.labels.summary(self.config.data.label, self.classes)
        assert summary is not None  # `labels` are those of the config's label
        return summary

    @cached_property
    def label_by_value(self) -> ByValue:
        # Statistics cover the train split only. A value with enough rows in all has at least half of its expected share
        # there. Free text has no such value, so its column is not read. Statistics of numbers have no values, so whole
        # numbers are counted: codes, hours and months are as good as text.
        share = self.train.examples / max(self.train.examples + self.eval.examples, 1)
        least, frequent, whole = self.gate.min_rows_for_value, {}, []
        for name, stats in self.train.features.items():
            kind = self.manifest.columns.get(name, "string")
            if kind == "int64" and name not in (self.config.data.label.column, self.config.data.weight_column):
                whole.append(name)
            if not is_text(kind):
                continue  # a row has several values, or bytes
            buckets = stats.string_stats.rank_histogram.buckets[:VALUES]
            if values := [bucket.label for bucket in buckets if bucket.sample_count >= least * share / 2]:
                frequent[name] = values
        frequent |= frequent_values(self.rows.folder, whole, VALUES, least)
        return label_by_value(self.rows.folder, frequent, self.config.data.label, self.label, self.classes)
