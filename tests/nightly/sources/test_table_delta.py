"""What only Delta tables have: column mapping, deletion vectors, checkpoints, VACUUM, features of the protocol."""

import base64
import datetime as dt
import json
import logging
import os
import struct

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, Schema
from deltalake.schema import PrimitiveType

from nightly.sources.errors import RefusedError
from tests.nightly.sources.lakes import DATA, END, DeltaLake, Nights, trips
from tests.support.nights import utc

B85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


@pytest.fixture
def nights(tmp_path):
    return Nights(tmp_path / "nights")


@pytest.fixture
def lake(tmp_path):
    return DeltaLake(tmp_path)


def log_file(lake, version):
    return lake.folder / f"lake/_delta_log/{version:020}.json"


def commit(lake, *actions):
    """Commit actions that deltalake does not write."""
    version = lake.table.version() + 1
    log_file(lake, version).write_text("\n".join(json.dumps(action) for action in actions))


def actions(lake, version, kind):
    lines = map(json.loads, log_file(lake, version).read_text().splitlines())
    return [line[kind] for line in lines if kind in line]


def date(lake):
    """Let version N be of day N + 1, noon."""
    for version in range(lake.table.version() + 1):
        if log_file(lake, version).exists():
            os.utime(log_file(lake, version), (utc(2016, 3, version + 1, 12).timestamp(),) * 2)


def features(*names):
    return {
        "protocol": {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": list(names),
            "writerFeatures": list(names),
        }
    }


def deletion_vector(*rows):
    """Return the descriptor of a deletion vector inside the log: a roaring bitmap, in Z85."""
    container = struct.pack("<HHI", 0, len(rows) - 1, 16) + struct.pack(f"<{len(rows)}H", *rows)
    bitmap = struct.pack("<IQI", 1681511377, 1, 0) + struct.pack("<II", 12346, 1) + container
    text = base64.b85encode(bitmap + b"\0" * (-len(bitmap) % 4)).decode().translate(str.maketrans(B85, Z85))
    return {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(bitmap), "cardinality": len(rows)}


def test_the_version_of_a_night_is_the_last_one_committed_before_it(lake, nights):
    for day in (1, 2, 3):
        lake.append(trips(day))
    date(lake)
    for as_of, days in [(utc(2016, 3, 1, 12), 1), (utc(2016, 3, 2, 11), 1), (utc(2016, 3, 2, 13), 2), (END, 3)]:
        download = nights.fetch(lake.source(), as_of=as_of)
        assert len(download.files) == days
    with pytest.raises(RefusedError, match="begins with version 0 of 2016-03-01 12:00:00 UTC"):
        nights.fetch(lake.source(), as_of=utc(2016, 3, 1, 11))


def test_a_log_that_was_cleaned_says_from_when_on_it_can_be_read(lake, nights):
    for day in (1, 2, 3):
        lake.append(trips(day))
    date(lake)
    lake.table.create_checkpoint()
    lake.table.cleanup_metadata()  # removes what is older than a month
    with pytest.raises(RefusedError, match=r"back to version 2 of 2016-03-03 12:00:00 UTC: its older log was removed"):
        nights.fetch(lake.source(), as_of=utc(2016, 3, 2))
    nights.fetch(lake.source(), as_of=END)
    assert len(nights.rows()) == 12


def test_a_commit_s_own_time_counts_where_the_table_has_it(lake, nights):
    lake.append(trips(1))
    info = {"commitInfo": {"inCommitTimestamp": int(utc(2016, 3, 4).timestamp() * 1000), "operation": "WRITE"}}
    protocol = features()
    protocol["protocol"] |= {"minReaderVersion": 1, "writerFeatures": ["inCommitTimestamp"]}
    del protocol["protocol"]["readerFeatures"]
    commit(
        lake,
        info,
        protocol,
        *({"remove": {"path": add["path"], "dataChange": True}} for add in actions(lake, 0, "add")),
    )
    date(lake)  # the file is of March 2
    assert len(nights.fetch(lake.source(), as_of=utc(2016, 3, 3)).files) == 1
    assert nights.fetch(lake.source(), as_of=utc(2016, 3, 5)).files == []


def test_vacuum_says_from_when_on_the_window_can_be_read(lake, nights):
    lake.append(trips(1))
    lake.append(trips(2))
    lake.delete(101)
    lake.append(trips(3))
    date(lake)
    lake.table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(
        RefusedError, match=r"VACUUM .* can be read as of 2016-03-03 12:00:00 UTC \(version 2\) or later"
    ):
        nights.fetch(lake.source(), as_of=utc(2016, 3, 2, 13))
    nights.fetch(lake.source(), as_of=utc(2016, 3, 3, 13))
    assert len(nights.rows()) == 7


def test_a_compaction_has_the_same_rows_and_says_so(lake, nights, caplog):
    caplog.set_level(logging.INFO)
    lake.append(trips(1))
    lake.append(trips(2))
    before = nights.snapshot(lake.source())
    lake.compact()
    assert nights.snapshot(lake.source()) == before
    assert "OPTIMIZE rewrote 2 of the window's files: the rows are the same" in caplog.text
    assert not [record for record in caplog.records if record.levelno == logging.WARNING]


def test_deleted_rows_of_a_deletion_vector_are_left_out(lake, nights, caplog):
    lake.append(trips(1))
    lake.append(trips(2))
    first = nights.fetch(lake.source())
    (add,) = actions(lake, 0, "add")
    commit(
        lake,
        {"commitInfo": {"operation": "DELETE"}},
        features("deletionVectors"),
        {"remove": {"path": add["path"], "dataChange": True, "deletionTimestamp": 0}},
        {"add": add | {"deletionVector": deletion_vector(1, 3)}},
    )
    second = nights.fetch(lake.source())
    assert [row["trip"] for row in nights.rows()] == [100, 102, 200, 201, 202, 203]
    assert (second.reused, second.revised) == (1, [first.files[0].origin, f"{lake.path} (version)"])
    assert "DELETE has revised rows of one of the window's files" in caplog.text
    assert nights.rows() == sorted(pa.table(lake.table.scan()).to_pylist(), key=lambda row: row["trip"])


@pytest.mark.parametrize("mode", ["name", "id"])
def test_a_renamed_column_is_read_under_its_new_name(lake, nights, mode):
    fields = [Field(name, PrimitiveType(kind)) for name, kind in [("trip", "long"), ("Started At", "timestamp")]]
    fields += [Field("day", PrimitiveType("date")), Field("fare", PrimitiveType("double"))]
    configuration = {"delta.columnMapping.mode": mode}
    DeltaTable.create(lake.path, Schema(fields), partition_by=["day"], configuration=configuration)
    rows = trips(1).select(["trip", "Started At", "fare"])
    lake.append(rows.append_column("day", pa.array([dt.date(2016, 3, 1)] * 4)))
    (metadata,) = actions(lake, 0, "metaData")
    commit(lake, {"metaData": metadata | {"schemaString": metadata["schemaString"].replace('"fare"', '"price"')}})
    nights.fetch(lake.source())
    assert nights.rows() == sorted(pa.table(lake.table.scan()).to_pylist(), key=lambda row: row["trip"])
    assert nights.rows()[1] == {
        "trip": 101,
        "Started At": dt.datetime(2016, 3, 1, 7, 30, 0, 250_000, dt.UTC),
        "day": dt.date(2016, 3, 1),
        "price": 10.6,
    }


def test_added_and_widened_columns_are_read_in_old_files_too(lake, nights):
    lake.append(trips(1).select(["trip", "Started At", "seats"]))
    (metadata,) = actions(lake, 0, "metaData")
    wider = metadata["schemaString"].replace('"name":"seats","type":"integer"', '"name":"seats","type":"long"')
    assert wider != metadata["schemaString"]
    commit(lake, features("typeWidening"), {"metaData": metadata | {"schemaString": wider}})
    (add,) = actions(lake, 0, "add")
    rows = trips(2).select(["trip", "Started At", "seats"])
    path = lake.folder / "lake/wide.parquet"
    pa.parquet.write_table(rows.set_column(2, "seats", rows["seats"].cast(pa.int64())), path)
    commit(lake, {"add": add | {"path": path.name, "size": path.stat().st_size, "stats": "{}"}})
    nights.fetch(lake.source())
    assert [row["seats"] for row in nights.rows()] == [0, 1, 0, 1] * 2
    lake = DeltaLake(lake.folder / "added")
    lake.append(trips(1).select(["trip", "Started At"]))
    lake.append(trips(2).select(["trip", "Started At", "fare"]), schema_mode="merge")
    nights.fetch(lake.source())
    assert [row["fare"] for row in nights.rows()] == [None] * 4 + trips(2)["fare"].to_pylist()


@pytest.mark.parametrize(
    ("column", "time_format"),
    [
        ("date", "%Y-%m-%d"),
        ("naive", "%Y-%m-%d"),
        ("text", "%Y-%m-%d %H:%M:%S"),
        ("seconds", "epoch_s"),
        ("milliseconds", "epoch_ms"),
    ],
)
def test_statistics_of_any_kind_of_time_leave_files_out(lake, nights, column, time_format):
    for day in range(1, 8):
        moment = dt.datetime(2016, 3, day, 12)
        seconds = int(moment.replace(tzinfo=dt.UTC).timestamp())
        values = {
            "date": [moment.date()],
            "naive": pa.array([moment], pa.timestamp("us")),
            "text": [str(moment)],
            "seconds": [seconds],
            "milliseconds": [seconds * 1000],
        }
        lake.append(pa.table({"trip": [day], column: values[column]}))
    data = {"time_column": column, "time_format": time_format}
    nights.fetch(lake.source(), start=utc(2016, 3, 4), end=utc(2016, 3, 5), data=data)
    days = [row["trip"] for row in nights.rows()]
    assert 4 in days
    assert set(days) <= {3, 4, 5, 6}  # a time without a zone may be of any
    everything = nights.fetch(lake.source(), data=data | {"time_format": "%d.%m.%Y"})
    assert len(everything.files) == (7 if column != "date" else len(everything.files))


def test_partitions_with_odd_names_are_pruned_and_have_their_values(lake, nights):
    for day in (1, 2):
        rows = trips(day).append_column("city", pa.array(["a b/ü=1%", None, "c", "c"]))
        lake.append(rows.append_column("day", pa.array([dt.date(2016, 3, day)] * 4)), partition_by=["day", "city"])
    nights.fetch(lake.source(), data=DATA | {"time_column": "day"})
    assert [row["city"] for row in nights.rows()] == ["a b/ü=1%", None, "c", "c"] * 2
    nights.fetch(lake.source(), start=utc(2016, 3, 2), end=utc(2016, 3, 3))
    assert {row["day"] for row in nights.rows()} == {dt.date(2016, 3, 2)}


def test_a_feature_that_no_reader_here_knows_is_named(lake, nights):
    lake.append(trips(1))
    commit(lake, features("timeMachine"))
    with pytest.raises(RefusedError, match="uses timeMachine, which cannot be read"):
        nights.fetch(lake.source())


def test_a_table_that_is_written_meanwhile_is_read_in_one_version(lake, nights, monkeypatch):
    from nightly.sources.table import Table

    lake.append(trips(1))
    lake.append(trips(2))
    fetch = Table.fetch

    def write_and_fetch(self, part, target, known):
        if lake.table.version() < 3:
            lake.delete(200)
        return fetch(self, part, target, known)

    monkeypatch.setattr(Table, "fetch", write_and_fetch)
    nights.fetch(lake.source())
    assert [row["trip"] for row in nights.rows()] == [100, 101, 102, 103, 200, 201, 202, 203]
