"""Statistics of logged requests, and of the training rows of the same days, to measure serving skew.

A window of a year holds every season, but a month of requests only one. So the requests of the last `serving_days` are
compared with the training rows of those days only.
"""

import base64
import binascii
import datetime as dt
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import AwareDatetime
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from nightly.examples.encoding import as_features
from nightly.models import config_of
from nightly.prediction_log import FIELDS, DamagedLogError, read
from nightly.records.base import Contract
from nightly.records.config import ModelConfig
from nightly.records.night import Night
from nightly.schemas.features import Sized, sized_features
from nightly.snapshots.verification import verify_snapshot
from nightly.statistics.measure import statistics_of
from nightly.training.raw_features import MISSING_INT, serving_features

log = logging.getLogger("nightly")

MAX_REQUESTS = 200_000  # sampled for statistics; more do not change a distance
SEED = "nightly requests"  # 16 characters; a fixed key always samples the same requests
TYPES = {schema_pb2.INT: pa.int64(), schema_pb2.FLOAT: pa.float32(), schema_pb2.BYTES: pa.binary()}
Statistics = statistics_pb2.DatasetFeatureStatisticsList


class Requests(Contract):
    """Which requests were compared with which rows, and what was left out."""

    FILE: ClassVar = "requests.json"  # in the artifact of request statistics

    folder: str
    start: AwareDatetime  # of the requests, inclusive
    end: AwareDatetime  # exclusive
    logged: int = 0
    rows_start: AwareDatetime | None = None  # of the training rows
    rows_end: AwareDatetime | None = None
    left_out: dict[str, str] = {}  # feature -> why it was not compared
    unreadable: dict[str, str] = {}  # feature -> the values that are not of its type and count as missing
    unknown: list[str] = []  # features of requests that the schema does not have
    missing: str = ""  # why nothing was compared, or ""

    @property
    def rows(self) -> str:
        """The words for the training rows that the requests were compared with."""
        since = f" of the same days (since {self.rows_start:%Y-%m-%d})" if self.rows_start else ""
        return f"the training rows{since}"


@dataclass
class Sample:
    """A uniform sample of at most MAX_REQUESTS logged requests, chosen by a hash of their ids."""

    tables: list[tuple[np.ndarray, pa.Table]] = field(default_factory=list)  # (hashes of the ids, requests)
    logged: int = 0
    first_micros: int | None = None
    limit: int = 2**64 - 1  # hashes up to this are kept

    def add(self, table: pa.Table) -> None:
        self.logged += table.num_rows
        if not table.num_rows:
            return
        begin = pc.min(table["serving/time_micros"]).as_py()
        self.first_micros = begin if self.first_micros is None else min(begin, self.first_micros)
        columns = [name for name in table.column_names if not name.startswith("prediction/")]
        self._keep(_hashes(table), table.select(columns))
        while sum(len(hashes) for hashes, _ in self.tables) > MAX_REQUESTS:
            self.limit //= 2
            before, self.tables = self.tables, []
            for hashes, sampled in before:
                self._keep(hashes, sampled)

    def _keep(self, hashes: np.ndarray, table: pa.Table) -> None:
        chosen = hashes <= self.limit
        if chosen.any():
            self.tables.append((hashes[chosen], table.filter(chosen)))


def compare(
    night: Night, schema: schema_pb2.Schema, predictions: Path, snapshot: Path
) -> tuple[Requests, Statistics | None, Statistics | None]:
    """Return the statistics of the requests in the `serving_days` before the as-of time, and of the rows of those days.

    Both are None if there are no requests; `Requests.missing` then gives the reason.

    :param predictions: the folder where the model's clients log
    """
    config = config_of(night)
    days = config.data_gate.serving_days
    about = Requests(folder=str(predictions), start=night.as_of - dt.timedelta(days=days), end=night.as_of)
    if not days:
        return about.model_copy(update={"missing": "data_gate.serving_days is 0"}), None, None
    sample = Sample()
    try:
        for table in read(predictions, about.start, about.end):
            sample.add(table.filter(pc.equal(table["serving/model"], night.model)))
    except DamagedLogError as error:
        return about.model_copy(update={"missing": str(error)}), None, None
    if not sample.logged:
        why = f"no requests to {night.model} from {about.start:%Y-%m-%d} to {about.end:%Y-%m-%d} are logged"
        return about.model_copy(update={"missing": f"{why} in {predictions}"}), None, None

    first = dt.datetime.fromtimestamp(sample.first_micros / 1e6, dt.UTC)
    late = dt.timedelta(days=config.data.late_days)
    begin = end = None  # without a time column, all rows are compared
    if config.data.time_column:
        begin, end = first - late, night.as_of - late  # training rows arrive late_days after they happen
    types = {f.name: TYPES[f.type] for f in schema.feature if f.name in serving_features(schema)}
    left_out = {name: why for name, why in _left_out(sample).items() if name in types}
    compared = {name: kind for name, kind in types.items() if name not in left_out}
    bad: dict[str, list[str]] = {}
    sized = sized_features(schema)
    served = statistics_of((_features(table, compared, bad, sized) for _, table in sample.tables), sized)
    trained = statistics_of(_rows(snapshot, config, begin, end), sized)
    names = {name for _, table in sample.tables for name in table.column_names if name not in FIELDS}
    about = about.model_copy(
        update={
            "logged": sample.logged,
            "rows_start": begin,
            "rows_end": end,
            "left_out": left_out,
            "unreadable": {name: f"{len(wrong):,} values such as {wrong[0]!r}" for name, wrong in bad.items() if wrong},
            "unknown": sorted(names - {feature.name for feature in schema.feature}),
        }
    )
    log.info("%d requests logged since %s, beside %s", sample.logged, first, about.rows)
    return about, served, trained


def _hashes(table: pa.Table) -> np.ndarray:
    ids = table["serving/id"].to_numpy(zero_copy_only=False).astype(object)  # a caller may repeat an id
    return pd.util.hash_array(ids, hash_key=SEED) ^ pd.util.hash_array(table["serving/time_micros"].to_numpy())


def _left_out(sample: Sample) -> dict[str, str]:
    """Return feature -> reason for features that clients removed or hashed in any request.

    The other requests alone would be a biased sample.
    """
    counts = Counter()
    total = sum(table.num_rows for _, table in sample.tables)
    for _, table in sample.tables:
        for kind in ("removed", "hashed"):
            counts.update((name, kind) for names in table[f"serving/{kind}"].to_pylist() for name in names or ())
    texts = {"removed": "removed from the log", "hashed": "logged as a hash"}
    return {name: f"{texts[kind]} in {rows / total:.0%} of the requests" for (name, kind), rows in counts.items()}


def _features(
    table: pa.Table, kinds: dict[str, pa.DataType], bad: dict[str, list[str]], sized: Mapping[str, Sized]
) -> pa.RecordBatch:
    """Return requests in the form of examples: lists of the schema's types, null where a value means missing."""
    arrays = []
    for name, kind in kinds.items():
        if name not in table.column_names:
            arrays.append(pa.nulls(table.num_rows, pa.list_(kind)))
            continue
        lists = table[name].combine_chunks()
        values = _values(pc.list_flatten(lists), kind, bad.setdefault(name, []))
        if sized.get(name) in ("image", "bytes"):
            values = pa.array([value and _content(value) for value in values.to_pylist()], pa.binary())
        present = values.is_valid()
        rows = pc.list_parent_indices(lists).filter(present).to_numpy()
        counts = np.bincount(rows, minlength=len(lists))
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        column = pa.ListArray.from_arrays(offsets, values.drop_null())
        arrays.append(pc.if_else(pa.array(counts > 0), column, pa.scalar(None, column.type)))
    return pa.RecordBatch.from_arrays(arrays, list(kinds))


def _content(value: bytes) -> bytes:
    """Return the bytes of a logged value, which a log of JSON has as base64."""
    try:
        return base64.b64decode(value, validate=True) or value
    except binascii.Error:
        return value


def _values(values: pa.Array, kind: pa.DataType, bad: list[str]) -> pa.Array:
    """Return values as `kind`, null for missing and for unreadable values. The unreadable ones are added to `bad`."""
    if kind == pa.binary():
        text = values if values.type == kind else values.cast(pa.string()).cast(kind)
        return pc.if_else(pc.equal(text, b""), pa.scalar(None, kind), text)
    if values.type == pa.binary():
        raw = pd.Series([value.decode(errors="replace") for value in values.to_pylist()], dtype=object)
        blank = raw.str.strip() == ""
    else:
        raw = values.to_pandas()
        blank = (raw == MISSING_INT) if values.type == pa.int64() else raw.isna()
    numbers = pd.to_numeric(raw, errors="coerce")
    wrong = numbers.isna() if kind == pa.float32() else numbers.isna() | (numbers % 1 != 0) | (numbers.abs() >= 2**63)
    bad += [str(value) for value in raw[wrong & ~blank]]
    usable = ~(wrong | blank)
    return pa.array(numbers.where(usable, 0), mask=~usable.to_numpy()).cast(kind, safe=False)


def _rows(
    snapshot: Path, config: ModelConfig, begin: dt.datetime | None, end: dt.datetime | None
) -> Iterator[pa.RecordBatch]:
    """Yield the snapshot's labelled rows of this period, in the form of examples. Raises DamagedSnapshotError.

    :param begin: None for all rows
    """
    verify_snapshot(snapshot)
    label, time = config.data.label.column, config.data.time_column
    for path in sorted(snapshot.glob("rows-*.parquet")):
        period = (pc.field(time) >= begin) & (pc.field(time) < end) if begin else None
        rows = pq.read_table(path, filters=period)
        if label in rows.column_names:
            for batch in rows.filter(rows[label].is_valid()).to_batches():
                yield as_features(batch, [name for name in batch.schema.names if name not in config.data.ignore])


def read_requests(folder: Path) -> Requests:
    """Read requests.json of an artifact of request statistics."""
    return Requests.load(Path(folder) / Requests.FILE)
