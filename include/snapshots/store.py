"""Snapshots on disk: <root>/<model>/<id>/ with Parquet shards (rows-….parquet) and manifest.json.

A snapshot's id is a hash of its columns and of its set of rows, so the same rows have the same id however the bodies
were sliced and in whatever order they came; and they are stored in one order: by time, then by the row's own hash.
Nothing under an id ever changes: it is built beside, synced, and renamed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from include.contracts.base import did_you_mean, sync_folder
from include.contracts.night import utc_now
from include.contracts.snapshot import SnapshotFile, SnapshotManifest
from include.snapshots.errors import DamagedSnapshotError, SnapshotNotFoundError

log = logging.getLogger("nightly")

SHARD_ROWS = 250_000
ROW_GROUP_ROWS = 65_536
LEFTOVER_SECONDS = 24 * 3600  # a creator that has written nothing for so long has died
TYPES = {"string": pa.string(), "int64": pa.int64(), "float": pa.float64(), "timestamp": pa.timestamp("us", "UTC")}


class SnapshotStore:
    """The snapshots of one model."""

    def __init__(self, root: Path, model: str) -> None:
        self.model = model
        self.folder = Path(root) / model

    def path(self, snapshot_id: str) -> Path:
        return self.folder / snapshot_id

    def list(self) -> list[SnapshotManifest]:
        """Every snapshot, the oldest first."""
        found = [SnapshotManifest.load(path) for path in self.folder.glob("[!.]*/manifest.json")]
        return sorted(found, key=lambda manifest: manifest.created_at)

    def get(self, snapshot_id: str) -> SnapshotManifest:
        """The snapshot whose id is, or begins with, `snapshot_id`. Raises SnapshotNotFoundError."""
        ids = sorted(path.parent.name for path in self.folder.glob("[!.]*/manifest.json"))
        matching = [name for name in ids if name.startswith(snapshot_id)] if snapshot_id else ids
        if len(matching) > 1:
            raise SnapshotNotFoundError(f"several snapshots of {self.model} begin with {snapshot_id!r}: {matching}")
        if not matching:
            hint = did_you_mean(snapshot_id, ids) if ids else "; there is none yet"
            raise SnapshotNotFoundError(f"{self.folder} has no snapshot {snapshot_id!r}{hint}")
        return SnapshotManifest.load(self.path(matching[0]) / "manifest.json")

    def verify(self, snapshot_id: str) -> SnapshotManifest:
        """Compare each file with the manifest. Raises DamagedSnapshotError with every difference."""
        manifest = self.get(snapshot_id)
        folder = self.path(manifest.snapshot_id)
        expected = {file.name: file.sha256 for file in manifest.files}
        found = {path.name: _sha256(path) for path in folder.iterdir() if path.name != "manifest.json"}
        wrong = [f"{name} is missing" for name in expected.keys() - found.keys()]
        wrong += [f"{name} does not belong to it" for name in found.keys() - expected.keys()]
        wrong += [f"{name} has changed" for name in expected.keys() & found.keys() if expected[name] != found[name]]
        if manifest.snapshot_id != folder.name:
            wrong.append(f"its manifest is of {manifest.snapshot_id}")
        if wrong:
            raise DamagedSnapshotError(f"the snapshot {folder} is damaged: {'; '.join(sorted(wrong))}.")
        return manifest

    def retain(self, keep: int, referred: set[str]) -> list[str]:
        """Remove all but the `keep` snapshots that were used last, and never one in `referred`; the ids removed."""
        self._sweep()
        last_use = {path.parent.name: path.parent.stat().st_mtime for path in self.folder.glob("[!.]*/manifest.json")}
        old = sorted(last_use, key=last_use.get, reverse=True)[keep:]
        removed = [name for name in old if name not in referred]
        for name in removed:
            leaving = self.folder / f".removing-{name}"
            self.path(name).rename(leaving)  # half a snapshot is never seen under its id
            shutil.rmtree(leaving, ignore_errors=True)  # what stays is swept later
        return removed

    def build(self, columns: dict[str, str], *, time_column: str, id_columns: list[str]) -> SnapshotBuilder:
        """A context in which rows are added and a snapshot is finished; `columns` maps names to the keys of TYPES."""
        return SnapshotBuilder(self, columns, time_column, id_columns)

    def _use(self, snapshot_id: str) -> SnapshotManifest:
        """An existing snapshot, marked as used now, so that no other run's retention takes it next."""
        os.utime(self.path(snapshot_id))
        return SnapshotManifest.load(self.path(snapshot_id) / "manifest.json")

    def _sweep(self) -> None:
        """Remove what creators and removers that died have left."""
        for leftover in [*self.folder.glob(".building-*"), *self.folder.glob(".removing-*")]:
            try:
                newest = max(path.stat().st_mtime for path in [leftover, *leftover.rglob("*")])
                if time.time() - newest > LEFTOVER_SECONDS:
                    log.info("removing %s, left by a process that died", leftover)
                    shutil.rmtree(leftover)
            except FileNotFoundError:
                continue  # its owner is alive, and done with it


class SnapshotBuilder:
    """Rows go to one spill file as they come; only 40 bytes a row and one shard are ever in memory."""

    def __init__(self, store: SnapshotStore, columns: dict[str, str], time_column: str, id_columns: list[str]) -> None:
        self.store = store
        self.columns = columns
        self.time_column = time_column
        self.id_columns = id_columns
        self.schema = pa.schema([(name, TYPES[kind]) for name, kind in columns.items()])
        self.rows = 0
        self._times: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._ids: list[np.ndarray] = []
        self._starts: list[int] = []

    def __enter__(self) -> SnapshotBuilder:
        self.store.folder.mkdir(parents=True, exist_ok=True)
        self.store._sweep()
        self._folder = Path(tempfile.mkdtemp(dir=self.store.folder, prefix=".building-"))
        self._spill = pa.ipc.new_file(str(self._folder / "rows.arrow"), self.schema)
        return self

    def __exit__(self, *_: object) -> None:
        self._spill.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, batch: pa.RecordBatch) -> None:
        """Rows with the columns of this snapshot, in its order; their time is never null."""
        if not batch.num_rows:
            return
        self._spill.write_batch(batch)
        self._starts.append(self.rows)
        self.rows += batch.num_rows
        self._times.append(batch.column(self.time_column).cast(pa.int64()).to_numpy(zero_copy_only=False))
        self._rows.append(_hashes(batch, sorted(self.columns)))
        if self.id_columns:
            self._ids.append(_hashes(batch, self.id_columns))

    def finish(self, *, label: str, **details: Any) -> tuple[SnapshotManifest, bool]:
        """The snapshot of all rows added, the last of each id; and whether it is new.

        `details` are the manifest's fields that only the caller knows.
        """
        self._spill.close()
        hashes, times = _joined(self._rows), _joined(self._times)
        order = _last_of_each(_joined(self._ids) if self.id_columns else hashes)
        order = order[np.lexsort((hashes[order, 1], hashes[order, 0], times[order]))]
        kinds = json.dumps(self.columns, sort_keys=True).encode()
        content = hashlib.sha256(kinds)
        content.update(hashes[order])
        snapshot_id = content.hexdigest()[:32]
        target = self.store.path(snapshot_id)
        if target.exists():
            return self.store._use(snapshot_id), False

        folder = self._folder / "snapshot"
        folder.mkdir()
        files, label_counts = self._write_shards(folder, order, label)
        manifest = SnapshotManifest(
            snapshot_id=snapshot_id,
            model=self.store.model,
            rows=len(order),
            first_row=_as_time(times[order[0]]),
            last_row=_as_time(times[order[-1]]),
            columns=self.columns,
            schema_fingerprint=hashlib.sha256(kinds).hexdigest()[:16],
            label_counts=label_counts,
            rows_by_day=_rows_by_day(times[order]),
            duplicate_rows=self.rows - len(order),
            files=files,
            created_at=utc_now(),
            **details,
        )
        manifest.save(folder / "manifest.json")
        sync_folder(folder)
        try:
            folder.rename(target)
        except OSError:
            if not target.exists():
                raise
            return self.store._use(snapshot_id), False  # another creator of the same content was first
        sync_folder(self.store.folder)
        return manifest, True

    def _write_shards(self, folder: Path, order: np.ndarray, label: str) -> tuple[list[SnapshotFile], dict[str, int]]:
        count = -(-len(order) // SHARD_ROWS)
        files, labels = [], Counter()
        # Read, not mapped: every shard has rows from everywhere, and mapped pages stay this process's.
        with pa.OSFile(str(self._folder / "rows.arrow")) as spill, pa.ipc.open_file(spill) as reader:
            for shard in range(count):
                table = self._take(reader, order[shard * SHARD_ROWS : (shard + 1) * SHARD_ROWS])
                path = folder / f"rows-{shard:05d}-of-{count:05d}.parquet"
                with path.open("wb") as file:
                    pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP_ROWS)
                    file.flush()
                    os.fsync(file.fileno())
                files.append(
                    SnapshotFile(name=path.name, rows=table.num_rows, bytes=path.stat().st_size, sha256=_sha256(path))
                )
                if label in self.columns:
                    for item in pc.value_counts(table.column(label).cast(pa.string())).to_pylist():
                        labels[item["values"] or ""] += item["counts"]
        return files, dict(sorted(labels.items()))

    def _take(self, reader: pa.RecordBatchFileReader, order: np.ndarray) -> pa.Table:
        """The rows at `order`, positions in the order of arrival, from the batches that have them."""
        batch_of = np.searchsorted(self._starts, order, side="right") - 1
        parts, positions = [], []
        for number in np.unique(batch_of):
            (chosen,) = np.nonzero(batch_of == number)
            parts.append(reader.get_batch(int(number)).take(pa.array(order[chosen] - self._starts[number])))
            positions.append(chosen)
        return pa.Table.from_batches(parts, self.schema).take(pa.array(np.argsort(np.concatenate(positions))))


def _hashes(batch: pa.RecordBatch, columns: list[str]) -> np.ndarray:
    """128 bits of each row's values in `columns`: uint64, [rows, 2].

    Arrow makes one string of each row; hashing those one by one in Python takes 1 s a million rows, as long as two
    runs of pandas' vectorised 64-bit hash, and is the same in every version.
    """
    texts = []
    for name in columns:
        values = batch.column(name)
        values = values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values
        texts.append(values.cast(pa.string()).fill_null("\x1e"))
    joined = pc.binary_join_element_wise(*texts, "\x1f").cast(pa.binary())  # ASCII's record and unit separators
    digests = b"".join([hashlib.blake2b(row, digest_size=16).digest() for row in joined.to_pylist()])
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """One array of `parts`, which are empty afterwards: there are never two copies of more than one."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _last_of_each(ids: np.ndarray) -> np.ndarray:
    """The position of the last row of each id."""
    order = np.lexsort((ids[:, 1], ids[:, 0]))  # stable: equal ids stay in the order of arrival
    ordered = ids[order]
    is_last = np.append((ordered[1:] != ordered[:-1]).any(axis=1), True)
    return order[is_last]


def _rows_by_day(times: np.ndarray) -> dict[str, int]:
    days, counts = np.unique(times.astype("datetime64[us]").astype("datetime64[D]"), return_counts=True)
    return {str(day): int(count) for day, count in zip(days, counts, strict=True)}


def _as_time(microseconds: np.int64) -> Any:
    return pa.scalar(int(microseconds), TYPES["timestamp"]).as_py()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
