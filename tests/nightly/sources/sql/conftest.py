"""A PostgreSQL server of all tests of this folder, and nights that read it."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from nightly.records.connection import Connection
from nightly.records.night import Download
from nightly.records.source_config import SqlSource
from nightly.sources import fetch
from nightly.sources.part_store import PartStore
from tests.support.nights import utc
from tests.support.postgresql import running_database

WINDOW = (utc(2016, 1, 3), utc(2016, 1, 8, 12))
TRIPS = """
    DROP TABLE IF EXISTS trips;
    CREATE TABLE trips AS SELECT id, timestamp '2016-01-01' + id * interval '1 hour' AS at, id % 7 AS area,
        md5(id::text) AS cab, timestamp '2016-02-01' AS changed FROM generate_series(0, 239) id;
"""


@dataclasses.dataclass
class Nights:
    """Nights of a database, in a folder of their own."""

    folder: Path
    connection: Connection
    time_format: str = "%Y-%m-%d"
    time_zone: str = "UTC"

    def fetch(self, *, run_id="r1", time_column="at", window=WINDOW, fresh=False, rename=None, **source) -> Download:
        data = SimpleNamespace(
            time_column=time_column, time_format=self.time_format, time_zone=self.time_zone, rename=rename or {}
        )
        return fetch(
            SqlSource(connection="trips", **source), window_start=window[0], window_end=window[1], folder=self.folder,
            data=data, connection=self.connection, run_id=run_id, fresh=fresh,
        )  # fmt: skip

    def puts(self, patch: pytest.MonkeyPatch, then=lambda number: None) -> list[str]:
        """The names of the parts that are fetched from now on; `then` is called with the number of each."""
        names: list[str] = []
        put = PartStore.put

        def counted(store, part, *rest, **others):
            names.append(part.name)
            record = put(store, part, *rest, **others)
            then(len(names))
            return record

        patch.setattr(PartStore, "put", counted)
        return names


def rows(download: Download) -> list[dict[str, Any]]:
    return [row for file in download.files for row in pq.read_table(file.path).to_pylist()]


@pytest.fixture(scope="session")
def server():
    with running_database() as running:
        yield running


@pytest.fixture
def run(server):
    """Run SQL in the server's database."""
    return lambda command: server.run("postgres", command)


@pytest.fixture
def postgresql(server):
    host, port = server.address.split(":")
    return Connection(
        conn_type="postgres", host=host, port=int(port), login=server.user, password=server.password, schema="postgres"
    )


@pytest.fixture
def nights(tmp_path, postgresql):
    return Nights(tmp_path / "downloads", postgresql)


@pytest.fixture
def trips(run):
    """A table of 240 hours from January 1."""
    for command in TRIPS.split(";"):
        if command.strip():
            run(command)
