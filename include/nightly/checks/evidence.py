"""The evidence that the checks read, and the findings that they return."""

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from nightly.records.baseline import Control
from nightly.records.config import DataGate, ModelConfig
from nightly.records.night import Contribution, Night, Reason, breaks_threshold
from nightly.records.snapshot import Delivery, SnapshotManifest
from nightly.snapshots.types import is_text
from nightly.statistics.serving import Requests
from nightly.statistics.sizes import comparable

Features = dict[str, statistics_pb2.FeatureNameStatistics]
EXAMPLES = 3  # rows that a finding refers to
CONTRIBUTIONS = 3  # values that a finding names
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


@dataclass(frozen=True)
class SnapshotRows:
    """The rows of a snapshot, for references to examples and for what statistics do not hold."""

    folder: Path

    def numbers(self, column: str) -> np.ndarray:
        """Return every number in the column; an empty array if it is not numeric."""
        parts = [np.empty(0)]
        for path in sorted(self.folder.glob("rows-*.parquet")):
            schema = pq.read_schema(path)
            if column not in schema.names or not _is_number(schema.field(column).type):
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

    def having(self, column: str, values: list[str]) -> list[str]:
        """Return references to rows with any of `values`."""
        return self.examples(column, lambda array: pc.is_in(array.cast(pa.string()), pa.array(values, pa.string())))

    def between(self, column: str, low: float, high: float) -> list[str]:
        """Return references to rows with low <= number <= high."""
        return self.examples(column, lambda array: pc.and_(pc.greater_equal(array, low), pc.less_equal(array, high)))

    def missing(self, column: str) -> list[str]:
        return self.examples(column, lambda array: array.is_null(), lists=True)

    def label_by_value(
        self, values: dict[str, list[str]], label: str, positive: list[str]
    ) -> dict[str, dict[str, tuple[int, int]]]:
        """Return feature -> value -> (labelled rows, positive rows), the most frequent value first.

        Only `values` (feature -> values) are counted: free text has as many values as rows.
        """
        # [value, (labelled, positive)]; the last row counts all other values
        counted = {name: np.zeros((len(listed) + 1, 2), int) for name, listed in values.items()}
        for path in sorted(self.folder.glob("rows-*.parquet")):
            names = pq.read_schema(path).names
            if label not in names:
                return {}
            features = [name for name in values if name in names and name != label]
            file = pq.ParquetFile(path, read_dictionary=features)  # decode each value once
            labels = file.read(columns=[label]).column(0).cast(pa.string())
            sides = labels.is_valid().to_numpy(), pc.is_in(labels, pa.array(positive, pa.string())).to_numpy()
            for name in features:  # one column at a time, to bound memory
                positions = _positions(file.read(columns=[name]).column(0), values[name])
                for side, rows in enumerate(sides):
                    counted[name][:, side] += np.bincount(positions[rows], minlength=len(values[name]) + 1)
        labels_by_feature = {}
        for name, listed in values.items():
            pairs = zip(listed, counted[name][:-1].tolist(), strict=True)
            counts = {value: (rows, positives) for value, (rows, positives) in pairs if rows}
            if counts:
                labels_by_feature[name] = dict(sorted(counts.items(), key=lambda item: (-item[1][0], item[0])))
        return labels_by_feature


@dataclass(frozen=True)
class Compared:
    """A control with its statistics, TFDV's distances to it, and its rows.

    The other fields are None if the control is missing. `rows` is also None if its snapshot was removed or is damaged.
    """

    control: Control
    train: Measured | None = None
    distances: anomalies_pb2.Anomalies | None = None
    rows: SnapshotRows | None = None


@dataclass(frozen=True)
class Served:
    """Logged requests and the training rows of the same days; only `about` is set if `about.missing` gives a reason."""

    about: Requests
    requests: Measured | None = None
    training: Measured | None = None
    distances: anomalies_pb2.Anomalies | None = None


def any_value(column: pa.Array, test: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Return for which rows `test` is true, for a list: of any of its values. Bytes have no values to test."""
    if pa.types.is_binary(column.type):
        return pa.array(np.zeros(len(column), bool))
    if not pa.types.is_list(column.type):
        return test(column)
    rows = np.repeat(np.arange(len(column)), pc.list_value_length(column).fill_null(0).to_numpy())
    passing = any_value(column.flatten(), test).fill_null(False).to_numpy(zero_copy_only=False)
    return pa.array(np.isin(np.arange(len(column)), rows[passing]))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _positions(column: pa.ChunkedArray, values: list[str]) -> np.ndarray:
    """Return each row's index in `values`, or len(values) for nulls and other values; shape [rows]."""
    encoded = column if pa.types.is_dictionary(column.type) else column.cast(pa.string()).dictionary_encode()
    encoded = encoded.unify_dictionaries().combine_chunks()
    positions = pc.index_in(encoded.dictionary.cast(pa.string()), pa.array(values, pa.string()))
    return positions.take(encoded.indices).fill_null(len(values)).to_numpy()


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
    def window(self) -> tuple[dt.datetime, dt.datetime]:
        """The night's window; the end is exclusive. The manifest's window is of the first night with these rows."""
        return self.night.window_start, self.night.as_of - dt.timedelta(days=self.config.data.late_days)

    def allowed(self, key: str, control: Control) -> float:
        """Return the threshold `key` of [data_gate], scaled for `control`."""
        return getattr(self.gate, key) * control.factor

    @cached_property
    def label_by_value(self) -> dict[str, dict[str, tuple[int, int]]]:
        label = self.config.data.label
        # Statistics cover the train split only. A value with enough rows in all has at least half of its expected share
        # there. Free text has no such value, so its column is not read.
        enough = self.gate.min_rows_for_value * (1 - self.config.data.eval_percent / 100) / 2
        frequent = {}
        for name, stats in self.train.features.items():
            if not is_text(self.manifest.columns.get(name, "string")):
                continue  # a row has several values, or bytes
            buckets = stats.string_stats.rank_histogram.buckets[:VALUES]
            if values := [bucket.label for bucket in buckets if bucket.sample_count >= enough]:
                frequent[name] = values
        return self.rows.label_by_value(frequent, label.column, label.positive)


def finding(
    check: str,
    subject: str,
    figure: float,
    threshold: float,
    message: str,
    *,
    action: str,
    control: str = "",
    sample: int | None = None,
    enough: int | None = None,
    values: Iterable[Contribution] = (),
    rows: Callable[[], list[str]] = list,
) -> Reason:
    """Return a finding that holds if `figure` is beyond `threshold` and rests on enough rows.

    :param sample: the number of rows that the figure rests on
    :param enough: with fewer rows, a broken threshold is only a warning
    :param rows: returns references to example rows; called only if the threshold is broken
    """
    broken = breaks_threshold(check, figure, threshold)
    judged = sample is None or enough is None or sample >= enough
    if broken and not judged:
        message += f" (not judged: it rests on {sample:,} rows, and fewer than {enough:,} say nothing)"
    return Reason(
        check=check,
        subject=subject,
        figure=_rounded(figure),
        threshold=_rounded(threshold),
        held=broken and judged,
        message=message,
        action=action,
        severity=("error" if judged else "warning") if broken else "info",
        control=control,
        sample=sample,
        enough=enough,
        values=list(values),
        rows=rows() if broken else [],
    )


def not_measured(check: str, why: str, *, subject: str = "", control: str = "", title: str = "") -> Reason:
    """Return a warning that a check was not possible, so that nobody mistakes it for passed."""
    against = f" against {title}" if title else ""
    return Reason(
        check=check,
        subject=subject,
        figure=None,
        threshold=None,
        held=False,
        severity="warning",
        control=control,
        message=f"{check}{against} was not measured: {why}",
    )


def worst(findings: Iterable[Reason]) -> list[Reason]:
    """Return the finding furthest beyond its threshold, or [] if there are none."""
    reasons = list(findings)
    return [max(reasons, key=lambda reason: (reason.held, reason.figure / reason.threshold))] if reasons else []


def _rounded(number: float) -> float:
    return number if isinstance(number, int) else float(f"{number:.6g}")
