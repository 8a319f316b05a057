"""What only Iceberg tables have: catalogs, branches and tags, expired snapshots, delete files."""

import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, StringType

from nightly.records.connection import Connection
from nightly.records.source_config import TableSource
from nightly.sources.errors import RefusedError, SourceError
from nightly.sources.table.iceberg import catalog_properties
from tests.nightly.sources.lakes import IcebergLake, Nights, trips


@pytest.fixture
def nights(tmp_path):
    return Nights(tmp_path / "nights")


@pytest.fixture
def lake(tmp_path):
    return IcebergLake(tmp_path)


def test_a_table_is_found_by_its_metadata_without_a_catalog(lake, nights, tmp_path):
    lake.append(trips(1))
    metadata = lake.table.metadata_location.removeprefix("file://")
    nights.fetch(TableSource(format="iceberg", path=metadata))
    assert len(nights.rows()) == 4
    hint = tmp_path / "lake/lake/trips/metadata/version-hint.text"
    hint.write_text(metadata.rpartition("/")[2])
    nights.fetch(TableSource(format="iceberg", path=str(tmp_path / "lake/lake/trips")))
    assert len(nights.rows()) == 4


def test_a_branch_or_tag_is_read_by_its_name(lake, nights):
    lake.append(trips(1))
    with lake.table.manage_snapshots() as snapshots:
        snapshots.create_tag(lake.table.current_snapshot().snapshot_id, "audited")
    lake.append(trips(2))
    nights.fetch(lake.source(ref="audited"), lake.connection)
    assert len(nights.rows()) == 4
    with pytest.raises(
        RefusedError, match=r"has no branch or tag 'audit', which source.ref names; it has audited, main"
    ):
        nights.fetch(lake.source(ref="audit"), lake.connection)


def test_an_expired_snapshot_says_from_when_on_the_table_can_be_read(lake, nights):
    lake.append(trips(1))
    first = lake.table.current_snapshot().snapshot_id
    moment = lake.moment()
    lake.append(trips(2))
    lake.table.maintenance.expire_snapshots().by_id(first).commit()
    with pytest.raises(RefusedError, match=r"can be read back to .*: its older snapshots expired"):
        nights.fetch(lake.source(), lake.connection, as_of=moment)
    nights.fetch(lake.source(), lake.connection)
    assert len(nights.rows()) == 8


def test_added_renamed_and_widened_columns_are_read_in_old_files_too(lake, nights):
    lake.append(trips(1).select(["trip", "Started At", "seats", "fare"]))
    with lake.table.update_schema() as schema:
        schema.rename_column("fare", "price")
        schema.update_column("seats", LongType())
        schema.add_column("city", StringType())
    rows = trips(2).select(["trip", "Started At", "seats", "fare"]).rename_columns({"fare": "price"})
    lake.append(rows.set_column(2, "seats", rows["seats"].cast("int64")).append_column("city", [["x"] * 4]))
    nights.fetch(lake.source(), lake.connection)
    assert [row["city"] for row in nights.rows()] == [None] * 4 + ["x"] * 4
    assert [row["seats"] for row in nights.rows()] == [0, 1, 0, 1] * 2
    assert [row["price"] for row in nights.rows()] == trips(1)["fare"].to_pylist() * 2


def test_an_empty_table_has_nothing_and_a_missing_one_is_named(lake, nights):
    lake.catalog.create_table(lake.path, schema=trips(1).schema)
    assert nights.fetch(lake.source(time_travel=False), lake.connection).files == []
    with pytest.raises(RefusedError, match="has no rows yet"):
        nights.fetch(lake.source(), lake.connection)
    for path in ("lake.trip", "lakes.trips"):
        with pytest.raises(RefusedError, match=f"the catalog has no Iceberg table '{path}'"):
            nights.fetch(TableSource(format="iceberg", path=path), lake.connection)


def test_a_catalog_that_is_away_is_one_sentence_without_its_address_s_password(nights):
    away = Connection(conn_type="iceberg", host="http://127.0.0.1", port=9, login="me", password="hidden")
    with pytest.raises(SourceError, match=r"the Iceberg table lake.trips cannot be opened") as caught:
        nights.fetch(TableSource(format="iceberg", path="lake.trips"), away)
    assert "hidden" not in str(caught.value)


def test_a_rest_catalog_takes_host_login_and_password_and_others_the_extra():
    rest = Connection(conn_type="iceberg", host="catalog.example", port=8181, login="me", password="hidden")
    expected = {"type": "rest", "uri": "https://catalog.example:8181", "credential": "me:hidden"}
    assert catalog_properties(rest) == expected
    glue = Connection(conn_type="aws", extra={"type": "glue", "glue.region": "eu-central-1"})
    assert catalog_properties(glue) == {"type": "glue", "glue.region": "eu-central-1"}


def add_delete_file(lake, content, rows):
    """Commit a delete file, as Spark's merge-on-read does and pyiceberg does not."""
    path = lake.folder / f"{content.name}.parquet"
    pq.write_table(rows, path)
    delete = DataFile.from_args(
        content=content,
        file_path=f"file://{path}",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=rows.num_rows,
        file_size_in_bytes=path.stat().st_size,
        equality_ids=[1] if content == DataFileContent.EQUALITY_DELETES else None,
    )
    delete.spec_id = 0
    with lake.table.transaction() as transaction, transaction.update_snapshot().fast_append() as snapshot:
        snapshot.append_data_file(delete)


def test_rows_that_a_delete_file_names_are_left_out(lake, nights):
    lake.append(trips(1))
    first = nights.fetch(lake.source(), lake.connection)
    (file,) = (task.file.file_path for task in lake.table.scan().plan_files())
    rows = pa.table({"file_path": [file, file], "pos": pa.array([1, 3], pa.int64())})
    add_delete_file(lake, DataFileContent.POSITION_DELETES, rows)
    second = nights.fetch(lake.source(), lake.connection)
    assert [row["trip"] for row in nights.rows()] == [100, 102]
    assert second.revised == [first.files[0].origin]


def test_equality_deletes_are_refused(lake, nights):
    lake.append(trips(1))
    add_delete_file(lake, DataFileContent.EQUALITY_DELETES, trips(1).select(["trip"]))
    with pytest.raises(RefusedError, match="has equality deletes, which pyiceberg cannot read: compact the table"):
        nights.fetch(lake.source(), lake.connection)


def test_rows_that_are_written_anew_keep_the_snapshot(lake, nights, caplog):
    caplog.set_level(logging.INFO)
    lake.append(trips(1))
    lake.append(trips(2))
    before = nights.snapshot(lake.source(), lake.connection)
    lake.compact()
    assert nights.snapshot(lake.source(), lake.connection) == before
    assert "2 of the window's files" in caplog.text
