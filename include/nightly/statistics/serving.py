"""What production was asked, beside what is trained on: statistics of logged requests and of rows of the same days.

A window of a year holds every season, and requests of a month only one: so the requests of the last `serving_days`
are compared with the training rows of those days, not with all of them.
"""

import datetime as dt
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

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
from nightly.snapshots.verification import verify_snapshot
from nightly.statistics.measure import statistics_of
from nightly.training.export import MISSING_INT, serving_features

log = logging.getLogger("nightly")

FILE = "requests.json"
MAX_REQUESTS = 200_000  # whose statistics are taken; by more of them no distance changes
SEED = "nightly requests"  # 16 characters: the same requests are chosen every time
TYPES = {schema_pb2.INT: pa.int64(), schema_pb2.FLOAT: pa.float32(), schema_pb2.BYTES: pa.binary()}
Statistics = statistics_pb2.DatasetFeatureStatisticsList


class Requests(Contract):
    """requests.json: which requests were compared with which rows, and what could not be."""

    folder: str
    start: AwareDatetime  # of the requests, inclusive
    end: AwareDatetime  # exclusive
    logged: int = 0
    rows_start: AwareDatetime | None = None  # of the training rows
    rows_end: AwareDatetime | None = None
    left_out: dict[str, str] = {}  # feature -> why it was not compared
    unreadable: dict[str, str] = {}  # feature -> which values were not of its type, and count as missing
    unknown: list[str] = []  # what requests have and the schema has not
    missing: str = ""  # why nothing was compared; "" where it was


@dataclass
class Asked:
    """Logged requests, as they are read: at most MAX_REQUESTS of them, evenly chosen by a hash of their id."""

    tables: list[tuple[np.ndarray, pa.Table]] = field(default_factory=list)  # hashes of the ids, requests
    logged: int = 0
    first_micros: int | None = None
    below: int = 2**64 - 1  # hashes up to this are kept

    def add(self, table: pa.Table) -> None:
        self.logged += table.num_rows
        if not table.num_rows:
            return
        begin = pc.min(table["serving/time_micros"]).as_py()
        self.first_micros = begin if self.first_micros is None else min(begin, self.first_micros)
        columns = [name for name in table.column_names if not name.startswith("prediction/")]
        self._keep(_hashes(table), table.select(columns))
        while sum(len(hashes) for hashes, _ in self.tables) > MAX_REQUESTS:
            self.below //= 2
            before, self.tables = self.tables, []
            for hashes, kept in before:
                self._keep(hashes, kept)

    def _keep(self, hashes: np.ndarray, table: pa.Table) -> None:
        chosen = hashes <= self.below
        if chosen.any():
            self.tables.append((hashes[chosen], table.filter(chosen)))


def compare(
    night: Night, schema: schema_pb2.Schema, predictions: Path, snapshot: Path
) -> tuple[Requests, Statistics | None, Statistics | None]:
    """The statistics of the requests logged in the `serving_days` before the night's as-of time, and of the training
    rows of those days; None and None where there are none, and Requests says why.

    :param predictions: the folder where clients of the model log
    """
    config = config_of(night)
    days = config.data_gate.serving_days
    about = Requests(folder=str(predictions), start=night.as_of - dt.timedelta(days=days), end=night.as_of)
    if not days:
        return about.model_copy(update={"missing": "data_gate.serving_days is 0"}), None, None
    asked = Asked()
    try:
        for table in read(predictions, about.start, about.end):
            asked.add(table.filter(pc.equal(table["serving/model"], night.model)))
    except DamagedLogError as error:
        return about.model_copy(update={"missing": str(error)}), None, None
    if not asked.logged:
        why = f"no requests to {night.model} from {about.start:%Y-%m-%d} to {about.end:%Y-%m-%d} are logged"
        return about.model_copy(update={"missing": f"{why} in {predictions}"}), None, None

    first = dt.datetime.fromtimestamp(asked.first_micros / 1e6, dt.UTC)
    late = dt.timedelta(days=config.data.late_days)
    begin, end = first - late, night.as_of - late  # the training rows that are there are so much older
    types = {f.name: TYPES[f.type] for f in schema.feature if f.name in serving_features(schema)}
    left_out = {name: why for name, why in _left_out(asked).items() if name in types}
    compared = {name: kind for name, kind in types.items() if name not in left_out}
    bad: dict[str, list[str]] = {}
    served = statistics_of(_features(table, compared, bad) for _, table in asked.tables)
    trained = statistics_of(_rows(snapshot, config, begin, end))
    names = {name for _, table in asked.tables for name in table.column_names if name not in FIELDS}
    about = about.model_copy(
        update={
            "logged": asked.logged,
            "rows_start": begin,
            "rows_end": end,
            "left_out": left_out,
            "unreadable": {name: f"{len(found):,} values such as {found[0]!r}" for name, found in bad.items() if found},
            "unknown": sorted(names - {feature.name for feature in schema.feature}),
        }
    )
    log.info("%d requests logged since %s, beside training rows from %s", asked.logged, first, begin)
    return about, served, trained


def _hashes(table: pa.Table) -> np.ndarray:
    ids = table["serving/id"].to_numpy(zero_copy_only=False).astype(object)  # which the caller may repeat
    return pd.util.hash_array(ids, hash_key=SEED) ^ pd.util.hash_array(table["serving/time_micros"].to_numpy())


def _left_out(asked: Asked) -> dict[str, str]:
    """What the client's log has removed or hashed, even if in some requests only: the others are not all."""
    counts = Counter()
    total = sum(table.num_rows for _, table in asked.tables)
    for _, table in asked.tables:
        for what in ("removed", "hashed"):
            counts.update((name, what) for names in table[f"serving/{what}"].to_pylist() for name in names or ())
    words = {"removed": "removed from the log", "hashed": "logged as a hash"}
    return {name: f"{words[what]} in {rows / total:.0%} of the requests" for (name, what), rows in counts.items()}


def _features(table: pa.Table, kinds: dict[str, pa.DataType], bad: dict[str, list[str]]) -> pa.RecordBatch:
    """Requests as examples are: lists of the schema's types, null where the export takes a value for missing."""
    arrays = []
    for name, kind in kinds.items():
        if name not in table.column_names:
            arrays.append(pa.nulls(table.num_rows, pa.list_(kind)))
            continue
        lists = table[name].combine_chunks()
        values = _values(pc.list_flatten(lists), kind, bad.setdefault(name, []))
        present = values.is_valid()
        rows = pc.list_parent_indices(lists).filter(present).to_numpy()
        counts = np.bincount(rows, minlength=len(lists))
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        made = pa.ListArray.from_arrays(offsets, values.drop_null())
        arrays.append(pc.if_else(pa.array(counts > 0), made, pa.scalar(None, made.type)))
    return pa.RecordBatch.from_arrays(arrays, list(kinds))


def _values(values: pa.Array, kind: pa.DataType, bad: list[str]) -> pa.Array:
    """Values as `kind`; null where they mean missing, and where they are no such value, which `bad` then has."""
    if kind == pa.binary():
        text = values if values.type == kind else values.cast(pa.string()).cast(kind)
        return pc.if_else(pc.equal(text, b""), pa.scalar(None, kind), text)
    if values.type == pa.binary():
        given = pd.Series([value.decode(errors="replace") for value in values.to_pylist()], dtype=object)
        blank = given.str.strip() == ""
    else:
        given = values.to_pandas()
        blank = (given == MISSING_INT) if values.type == pa.int64() else given.isna()
    numbers = pd.to_numeric(given, errors="coerce")
    wrong = numbers.isna() if kind == pa.float32() else numbers.isna() | (numbers % 1 != 0) | (numbers.abs() >= 2**63)
    bad += [str(value) for value in given[wrong & ~blank]]
    usable = ~(wrong | blank)
    return pa.array(numbers.where(usable, 0), mask=~usable.to_numpy()).cast(kind, safe=False)


def _rows(snapshot: Path, config: ModelConfig, begin: dt.datetime, end: dt.datetime) -> Iterator[pa.RecordBatch]:
    """The snapshot's labelled rows of this time, a shard at a time, as examples are. Raises DamagedSnapshotError."""
    verify_snapshot(snapshot)
    label, time = config.data.label.column, config.data.time_column
    for path in sorted(snapshot.glob("rows-*.parquet")):
        rows = pq.read_table(path, filters=(pc.field(time) >= begin) & (pc.field(time) < end))
        if label in rows.column_names:
            for batch in rows.filter(rows[label].is_valid()).to_batches():
                yield as_features(batch, [name for name in batch.schema.names if name not in config.data.ignore])


def read_requests(folder: Path) -> Requests:
    """What an artifact of compared requests says of itself."""
    return Requests.load(Path(folder) / FILE)
