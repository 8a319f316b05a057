"""Build a snapshot: rows in any number come in any order, and go to sorted Parquet shards."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightly.io.atomic import sync_file, sync_path
from nightly.io.files import hash_file
from nightly.io.owned import owned_folder
from nightly.io.space import check_space, full_disk_explained
from nightly.records.label_config import Kind
from nightly.records.night import utc_now
from nightly.records.snapshot import SnapshotFile, SnapshotManifest
from nightly.snapshots.labels import LabelCounter
from nightly.snapshots.order import by_time_and_hash, last_of_each, row_hashes, rows_by_day
from nightly.snapshots.store import BUILDING, SnapshotStore
from nightly.snapshots.types import TYPES

SHARD_ROWS = 250_000
SHARD_BYTES = 128 << 20  # fewer rows in a shard if they are large, as a shard is sorted in memory
ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 32 << 20  # a row group is read at once
OPEN_SHARDS = 256  # files written at the same time


class SnapshotBuilder:
    """Takes rows and finishes a snapshot, as a context manager.

    Incoming rows go to spill files. Finishing needs memory for one shard and 40 bytes a row.

    :param columns: name -> key of TYPES
    :param time_column: "" if the rows have no time
    :param known_at: the column with the time when a row was known; "" if there is none
    :param keep_equal: keep rows that are equal in all columns, instead of one of them
    :ivar superseded: once finished, how many rows were left out because their id has a row that was known later
    """

    def __init__(
        self,
        store: SnapshotStore,
        columns: dict[str, str],
        *,
        time_column: str,
        id_columns: list[str],
        known_at: str = "",
        keep_equal: bool = False,
    ) -> None:
        self.store = store
        self.columns = columns
        self.time_column = time_column
        self.id_columns = id_columns
        self.known_at = known_at
        self.keep_equal = keep_equal
        self.superseded = 0
        self.schema = pa.schema([(name, TYPES[kind]) for name, kind in columns.items()])
        self.rows = 0
        self._starts: list[int] = []
        self._owned = contextlib.ExitStack()

    def __enter__(self) -> SnapshotBuilder:
        self.store.folder.mkdir(parents=True, exist_ok=True)
        self.store.sweep()
        self._folder = self._owned.enter_context(owned_folder(self.store.folder, BUILDING))
        self._spill = pa.ipc.new_file(str(self._folder / "rows.arrow"), self.schema)
        # Sort keys and identities of the rows.
        self._keys = {name: (self._folder / name).open("wb") for name in ("times", "known", "hashes", "ids")}
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._spill, *self._keys.values()):
            with contextlib.suppress(OSError):  # a full disk; the folder is removed anyway
                file.close()
        self._owned.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Add rows; they have the snapshot's columns in its order, and no null in `time_column` and `known_at`."""
        if not batch.num_rows:
            return
        self._starts.append(self.rows)
        self.rows += batch.num_rows
        with full_disk_explained(self._folder, f"a snapshot of {self.store.model}"):
            self._spill.write_batch(batch)
            for key, column in (("times", self.time_column), ("known", self.known_at)):
                if column:
                    times = batch.column(column).cast(pa.int64()).to_numpy(zero_copy_only=False)
                    self._keys[key].write(np.ascontiguousarray(times).data)
            self._keys["hashes"].write(row_hashes(batch, sorted(self.columns)))
            if self.id_columns:
                self._keys["ids"].write(row_hashes(batch, self.id_columns))

    def finish(self, *, label: str, label_kind: Kind = "binary", **details: Any) -> tuple[SnapshotManifest, bool]:
        """Write the snapshot; return its manifest and whether it was written (False: it exists already).

        Of rows with the same id, the one known last is kept, and of several the last added. An existing snapshot's
        manifest may have counted another label. `details` are the remaining fields of the manifest.
        """
        self._spill.close()
        times = self._read("times", np.int64) if self.time_column else np.zeros(self.rows, np.int64)
        columns = json.dumps(self.columns, sort_keys=True).encode()
        content = hashlib.sha256(columns)
        order = self._order(times, content)
        snapshot_id = content.hexdigest()[:32]
        if existing := self.store.use(snapshot_id):
            return existing, False

        folder = self._folder / "snapshot"
        folder.mkdir()
        spilled = (self._folder / "rows.arrow").stat().st_size  # written twice more: as shards, then as Parquet
        check_space({folder: 2 * spilled}, f"a snapshot of {self.rows:,} rows of {self.store.model}")
        labels = LabelCounter(label, label_kind)
        files = self._write_shards(folder, order, labels)
        manifest = SnapshotManifest(
            snapshot_id=snapshot_id,
            model=self.store.model,
            rows=len(order),
            first_row=_as_time(times[order[0]]) if self.time_column else None,
            last_row=_as_time(times[order[-1]]) if self.time_column else None,
            columns=self.columns,
            schema_fingerprint=hashlib.sha256(columns).hexdigest()[:16],
            label_column=label,
            label_kind=label_kind,
            label_counts=labels.counts,
            label_quantiles=labels.quantiles,
            rows_by_day=rows_by_day(times[order]) if self.time_column else {},
            files=files,
            created_at=utc_now(),
            **details,
        )
        manifest.save(folder / SnapshotManifest.FILE)
        sync_path(folder)
        if existing := self.store.add(folder, snapshot_id):
            return existing, False  # another process published the same content first
        return manifest, True

    def _order(self, times: np.ndarray, content: Any) -> np.ndarray:
        """Return the positions of the rows to keep, in the snapshot's order; add their hashes to `content`."""
        hashes = self._read("hashes", np.uint64).reshape(-1, 2)
        if self.keep_equal:
            order = np.arange(len(hashes))
        else:
            ids = self._read("ids", np.uint64).reshape(-1, 2) if self.id_columns else hashes
            order, self.superseded = last_of_each(ids, self._read("known", np.int64) if self.known_at else None)
            del ids
        order = order[by_time_and_hash(times[order], hashes[order])]
        for start in range(0, len(order), SHARD_ROWS):
            content.update(hashes[order[start : start + SHARD_ROWS]])
        return order

    def _read(self, key: str, dtype: type) -> np.ndarray:
        with full_disk_explained(self._folder, f"a snapshot of {self.store.model}"):
            self._keys[key].close()
        return np.fromfile(self._folder / key, dtype)

    def _write_shards(self, folder: Path, order: np.ndarray, labels: LabelCounter) -> list[SnapshotFile]:
        spilled = (self._folder / "rows.arrow").stat().st_size
        size = max(1, min(SHARD_ROWS, SHARD_BYTES * self.rows // max(spilled, 1)))
        shards = [order[start : start + size] for start in range(0, len(order), size)]
        files: list[SnapshotFile] = []
        for first in range(0, len(shards), OPEN_SHARDS):
            chosen = shards[first : first + OPEN_SHARDS]
            self._distribute(chosen)
            for number, rows in enumerate(chosen):
                path = folder / f"rows-{first + number:05d}-of-{len(shards):05d}.parquet"
                files.append(self._write_shard(path, number, rows, labels))
        return files

    def _write_shard(self, path: Path, shard: int, rows: np.ndarray, labels: LabelCounter) -> SnapshotFile:
        """Write a distributed shard's rows in the order of `rows`, and count their labels; return its entry."""
        spilled = self._folder / f"shard-{shard}"
        with pa.OSFile(str(spilled)) as source, pa.ipc.open_stream(source) as reader:
            table = reader.read_all().combine_chunks()
        spilled.unlink()
        table = table.take(pa.array(np.argsort(np.argsort(rows))))
        with path.open("wb") as opened:
            size = max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES * table.num_rows // max(table.nbytes, 1)))
            pq.write_table(table, opened, compression="zstd", row_group_size=size)
            sync_file(opened)
        if labels.column in self.columns:
            labels.add(table.column(labels.column))
        return SnapshotFile(name=path.name, rows=table.num_rows, bytes=path.stat().st_size, sha256=hash_file(path))

    def _distribute(self, shards: list[np.ndarray]) -> None:
        """Split the spilled rows into one file a shard, in one pass. They stay in the order of arrival."""
        shard_of = np.full(self.rows, len(shards), np.uint16)  # len(shards): not in any of them
        for number, rows in enumerate(shards):
            shard_of[rows] = number
        with contextlib.ExitStack() as opened:
            # Not memory-mapped: mapped pages would stay resident.
            spill = opened.enter_context(pa.OSFile(str(self._folder / "rows.arrow")))
            reader = opened.enter_context(pa.ipc.open_file(spill))
            files = [
                opened.enter_context(pa.ipc.new_stream(str(self._folder / f"shard-{number}"), self.schema))
                for number in range(len(shards))
            ]
            for number, start in enumerate(self._starts):
                batch = reader.get_batch(number)
                target = shard_of[start : start + batch.num_rows]
                for shard in np.unique(target[target < len(shards)]):
                    files[shard].write_batch(batch.take(pa.array(np.flatnonzero(target == shard))))


def _as_time(microseconds: np.int64) -> Any:
    return pa.scalar(int(microseconds), TYPES["timestamp"]).as_py()
