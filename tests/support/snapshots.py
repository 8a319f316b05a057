"""Snapshots as a night leaves them, without an ingestion."""

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq

from nightly.io.files import hash_file
from nightly.records.snapshot import SnapshotFile, SnapshotManifest
from tests.support.nights import utc

DETAILS = {
    "window_start": utc(2016, 1, 1),
    "window_end": utc(2016, 2, 1),
    "rejected": [],
    "source": ["here"],
    "source_sha256": ["0"],
    "code_version": "abc",
}


def write_snapshot(folder, frame):
    folder.mkdir(exist_ok=True)
    shard = folder / "rows-00000.parquet"
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), shard)
    file = SnapshotFile(name=shard.name, rows=len(frame), bytes=shard.stat().st_size, sha256=hash_file(shard))
    day = dt.datetime(2016, 1, 1, tzinfo=dt.UTC)
    SnapshotManifest(
        snapshot_id=folder.name, model="taxi", rows=len(frame), window_start=day, window_end=day, first_row=day,
        last_row=day, columns={}, schema_fingerprint="", label_counts={}, files=[file], source=[], source_sha256=[],
        code_version="tests", created_at=day,
    ).save(folder / "manifest.json")  # fmt: skip
    return folder
