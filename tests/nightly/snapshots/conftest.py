"""A model, a night and bodies to make snapshots of."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nightly.records.config import DataGate, ModelConfig
from nightly.records.data_config import Data
from nightly.records.label_config import BinaryLabel
from nightly.records.source_config import FilesSource
from nightly.snapshots.ingest import ingest
from nightly.snapshots.store import SnapshotStore
from nightly.sources import fetch
from tests.support.nights import a_night, utc

SCHEMA = """
feature { name: "trips" type: INT }
feature { name: "fare" type: FLOAT }
feature { name: "city" type: BYTES }
"""


START, END = utc(2016, 1, 1), utc(2016, 2, 1)


class Bench:
    """Writes bodies, ingests them, and reads what came of it."""

    def __init__(self, folder):
        self.folder = folder
        self.bodies = folder / "bodies"
        self.bodies.mkdir()
        self.schema = folder / "schema.pbtxt"
        self.schema.write_text(SCHEMA)
        self.store = SnapshotStore(folder / "snapshots", "test")
        self.after_download = lambda: None
        self.rejected_path = folder / "night/rejected.parquet"

    def body(self, name, content):
        path = self.bodies / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def ingest(self, *, path=None, start=START, end=END, max_rejected_share=1.0, **data):
        data = {"id_columns": [], "time_column": "day", "label": BinaryLabel(column="city", positive=["A"]), **data}
        config = ModelConfig(
            name="test",
            description="",
            source=FilesSource(path=str(path or self.bodies)),
            data=Data(**data),
            data_gate=DataGate(max_rejected_share=max_rejected_share),
        )
        night = a_night(model="test", run_id="r1", as_of=end, window_start=start, release=False, code_version="abc")
        download = fetch(config.source, window_start=start, window_end=end, folder=self.folder)
        self.after_download()
        return ingest(config, night, download, self.store, folder=self.folder / "night", schema=self.schema)

    def rows(self, ref, *columns):
        """The values of `columns`, a tuple a row, in the snapshot's order."""
        rows = []
        for path in sorted(Path(ref.path).glob("rows-*.parquet")):
            rows += pq.read_table(path).to_pylist()
        return [tuple(row[column] for column in columns) for row in rows]

    def rejected(self):
        return pq.read_table(self.rejected_path).to_pylist() if self.rejected_path.exists() else []


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)
