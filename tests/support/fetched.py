"""What a source's rows become: the download of a window, and its snapshot."""

import datetime as dt
from pathlib import Path

import pyarrow.parquet as pq

from nightly.records.config import DataGate, ModelConfig
from nightly.records.connection import Connection
from nightly.records.data_config import Data
from nightly.records.label_config import BinaryLabel
from nightly.records.night import Download, SnapshotRef
from nightly.records.source_config import SourceConfig
from nightly.snapshots.ingest import ingest
from nightly.snapshots.store import SnapshotStore
from nightly.sources import fetch
from tests.support.nights import a_night

SCHEMA = """
feature { name: "trips" type: INT }
feature { name: "fare" type: FLOAT }
feature { name: "city" type: BYTES }
feature { name: "card" type: INT }
"""
DATA = Data(id_columns=[], time_column="day", label=BinaryLabel(column="city", positive=["A"]))


def download(
    source: SourceConfig,
    folder: Path,
    start: dt.datetime,
    end: dt.datetime,
    *,
    connection: Connection | None = None,
    data: Data = DATA,
    model_folder: Path = Path(),
    run_id: str = "run",
) -> Download:
    return fetch(
        source,
        window_start=start,
        window_end=end,
        folder=folder,
        data=data,
        connection=connection,
        model_folder=model_folder,
        run_id=run_id,
    )


def snapshot(fetched: Download, folder: Path) -> SnapshotRef:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schema.pbtxt").write_text(SCHEMA)
    config = ModelConfig(
        name="test",
        description="",
        source={"kind": "files", "path": "/nowhere"},
        data=DATA,
        data_gate=DataGate(max_rejected_share=0),
    )
    night = a_night(
        model="test",
        run_id="r1",
        as_of=fetched.window_end,
        window_start=fetched.window_start,
        release=False,
        code_version="abc",
    )
    store = SnapshotStore(folder / "snapshots", "test")
    return ingest(config, night, fetched, store, folder=folder / "night", schema=folder / "schema.pbtxt")


def rows_of(fetched: Download) -> list[dict]:
    """The rows in the Parquet bodies of a download."""
    return [row for file in fetched.files for row in pq.read_table(file.path).to_pylist()]
