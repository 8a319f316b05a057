"""Delta and Iceberg tables as a source, on files and on an S3 server: versions, parts, types and faults."""

import json
import logging
import subprocess
import sys

import pyarrow as pa
import pytest
from pydantic import ValidationError

from nightly.io.space import SPARE_BYTES, SpaceError
from nightly.records.source_config import FilesSource, TableSource
from nightly.sources import fetch
from nightly.sources.errors import ConnectionFailedError, RefusedError, SourceError
from tests.nightly.sources.lakes import END, START, DeltaLake, IcebergLake, Nights, trips
from tests.support.nights import utc
from tests.support.s3_server import EXPIRED, UNKNOWN_KEY, S3Server


@pytest.fixture(scope="module")
def s3():
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def nights(tmp_path):
    return Nights(tmp_path / "nights")


@pytest.fixture(params=["delta", "iceberg"])
def kind(request):
    return {"delta": DeltaLake, "iceberg": IcebergLake}[request.param]


@pytest.fixture
def lake(kind, tmp_path):
    return kind(tmp_path)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("glob", ["", "/**/*.parquet"])
@pytest.mark.parametrize("place", ["files", "s3"])
def test_the_files_of_a_table_are_not_read_as_files(kind, place, glob, tmp_path, request):
    """They hold deleted and replaced rows, too."""
    s3 = request.getfixturevalue("s3") if place == "s3" else None
    lake = kind(tmp_path, s3)
    lake.append(trips(1))
    folder = lake.path if lake.format == "delta" else lake.table.location().removeprefix("file://")
    source = FilesSource(path=folder + glob, connection="lake" if s3 else "")
    with pytest.raises(RefusedError, match=f'{folder} is a {lake.format.capitalize()} table.*kind = "table", format'):
        fetch(source, folder=tmp_path, window_start=START, window_end=END, connection=s3 and s3.connection())


@pytest.mark.parametrize("place", ["files", "s3"])
def test_a_backfill_reads_what_its_night_read(kind, place, tmp_path, nights, request):
    lake = kind(tmp_path, request.getfixturevalue("s3") if place == "s3" else None)
    lake.append(trips(1))
    lake.append(trips(2))
    monday = lake.moment()
    of_monday = nights.snapshot(lake.source(), lake.connection, as_of=monday)
    assert of_monday == nights.snapshot_of_csv(trips(1), trips(2))

    late, revised = trips(1, first=50), trips(2, rows=1, fare=99.5)
    lake.append(late)
    lake.delete(200)
    lake.append(revised)
    of_tuesday = nights.snapshot(lake.source(), lake.connection)
    assert of_tuesday == nights.snapshot_of_csv(trips(1), trips(2).slice(1), late, revised) != of_monday
    assert nights.snapshot(lake.source(), lake.connection, as_of=monday) == of_monday
    fresh = Nights(tmp_path / "fresh")
    assert fresh.snapshot(lake.source(), lake.connection, as_of=monday) == of_monday


def test_a_night_fetches_only_the_files_that_no_earlier_night_has(lake, nights, caplog):
    for day in (1, 2, 3):
        lake.append(trips(day))
    first = nights.fetch(lake.source(), lake.connection)
    assert (len(first.files), first.reused) == (3, 0)
    lake.append(trips(4))
    second = nights.fetch(lake.source(), lake.connection)
    assert (len(second.files), second.reused) == (4, 3)
    assert second.files[:3] == first.files  # the oldest first, as of rows with the same id the last is kept
    again = nights.fetch(lake.source(), lake.connection)
    assert again.files == second.files


def test_a_window_reads_only_the_files_that_may_have_its_rows(lake, nights):
    for day in (1, 2, 3, 4):
        lake.append(trips(day))
    nights.fetch(lake.source(), lake.connection, start=utc(2016, 3, 2), end=utc(2016, 3, 4))
    assert {row["Started At"].day for row in nights.rows()} == {2, 3}
    nights.fetch(lake.source(), lake.connection)
    assert {row["Started At"].day for row in nights.rows()} == {1, 2, 3, 4}
    nothing = nights.fetch(lake.source(), lake.connection, start=utc(2017, 3, 2), end=utc(2017, 3, 4))
    assert nothing.files == []


def test_the_log_tells_revised_rows_from_new_ones(lake, nights, caplog):
    caplog.set_level(logging.INFO)
    lake.append(trips(1))
    lake.append(trips(2))
    nights.fetch(lake.source(), lake.connection)
    lake.append(trips(3))
    appended = nights.fetch(lake.source(), lake.connection)
    assert warnings(caplog) == []
    assert (appended.parts, appended.reused, appended.revised) == (3, 2, [])
    lake.delete(101)
    revised = nights.fetch(lake.source(), lake.connection)
    (warning,) = warnings(caplog)
    assert "has revised rows of one of the window's files" in warning
    assert revised.revised == [f"{lake.path} (version)"]
    assert revised.revised_since and revised.revision.startswith("1 of 4 parts has changed at the source since")
    caplog.clear()
    lake.delete(102)
    other = nights.fetch(lake.source(), lake.connection, start=utc(2016, 3, 3), end=utc(2016, 3, 6))
    assert warnings(caplog) == []  # a file that the window does not need
    assert (other.parts, other.revised) == (1, [])


def test_rows_that_are_all_gone_are_revised(lake, nights):
    lake.append(trips(1, rows=1))
    nights.fetch(lake.source(), lake.connection)
    lake.delete(100)
    gone = nights.fetch(lake.source(), lake.connection)
    assert (gone.files, gone.parts, gone.revised) == ([], 1, [f"{lake.path} (version)"])


def test_a_download_that_has_no_room_is_refused_by_the_sizes_of_the_files(lake, nights, monkeypatch):
    lake.append(trips(1))
    monkeypatch.setattr("nightly.io.space.free_bytes", lambda folder: SPARE_BYTES + 1000)
    with pytest.raises(SpaceError, match="the download of 2 parts needs"):
        nights.fetch(lake.source(), lake.connection)


def test_the_version_that_a_person_names_fetches_no_file_again(lake, nights):
    lake.append(trips(1))
    version = lake.table.version() if lake.format == "delta" else lake.table.current_snapshot().snapshot_id
    lake.append(trips(2))
    nights.fetch(lake.source(), lake.connection)
    for keys in ({"version": version}, {"time_travel": False}):
        download = nights.fetch(lake.source(**keys), lake.connection)
        assert (download.reused, download.revised) == (download.parts, [])


def test_only_the_named_columns_are_read(lake, nights):
    lake.append(trips(1))
    nights.fetch(lake.source(columns=["trip", "Started At"]), lake.connection)
    assert set(nights.rows()[0]) == {"trip", "Started At"}
    with pytest.raises(RefusedError, match=r"has no column 'Trip', which source.columns names; did you mean 'trip'"):
        nights.fetch(lake.source(columns=["Trip"]), lake.connection)
    with pytest.raises(RefusedError, match=r"has no column 'started_at', which is the data.time_column"):
        nights.fetch(lake.source(columns=["trip"]), lake.connection)


def test_values_in_values_are_refused_until_they_are_left_out(lake, nights):
    nested = pa.array([{"lat": 1.0}] * 4, pa.struct([("lat", pa.float64())]))
    lake.append(trips(1).append_column("place", nested))
    with pytest.raises(RefusedError, match=r"the column 'place' is a struct.* name the columns to read"):
        nights.fetch(lake.source(), lake.connection)
    nights.fetch(lake.source(columns=["trip", "Started At"]), lake.connection)
    assert len(nights.rows()) == 4


def test_a_night_before_the_first_version_is_refused_unless_time_travel_is_off(lake, nights):
    lake.append(trips(1))
    with pytest.raises(RefusedError, match=r"begins .* the night is as of 2016-03-08 .*time_travel = false"):
        nights.fetch(lake.source(), lake.connection, as_of=END)
    nights.fetch(lake.source(time_travel=False), lake.connection, as_of=END)
    assert len(nights.rows()) == 4


def test_a_person_can_name_a_version(lake, nights):
    lake.append(trips(1))
    version = lake.table.version() if lake.format == "delta" else lake.table.current_snapshot().snapshot_id
    lake.append(trips(2))
    nights.fetch(lake.source(version=version), lake.connection)
    assert len(nights.rows()) == 4
    with pytest.raises(RefusedError, match=r"has no (version|snapshot) 77, which source.version names"):
        nights.fetch(lake.source(version=77), lake.connection)


def test_a_file_that_the_table_names_is_gone_or_damaged(lake, nights, tmp_path):
    lake.append(trips(1))
    (data,) = (path for path in (tmp_path / "lake").rglob("*.parquet"))
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match=rf"{data.name} is damaged: .* Restore it"):
        nights.fetch(lake.source(), lake.connection)
    data.unlink()
    with pytest.raises(SourceError, match=rf"{data.name}.* gone"):
        nights.fetch(lake.source(), lake.connection)
    assert not list((nights.folder / "downloads").rglob("bodies/*"))
    data.write_bytes(content)
    nights.fetch(lake.source(), lake.connection)


def test_wrong_credentials_and_a_token_that_expires_in_the_middle(kind, tmp_path, nights, s3):
    lake = kind(tmp_path, s3)
    for day in (1, 2, 3):
        lake.append(trips(day))
    s3.answer()
    try:
        s3.refuse(*UNKNOWN_KEY)
        with pytest.raises(RefusedError, match="access is refused: check the credentials") as caught:
            nights.fetch(lake.source(), lake.connection)
        assert "hidden" not in str(caught.value)
        s3.answer()
        s3.refuse(*EXPIRED, after=2)
        with pytest.raises(SourceError, match=r"expired: renew .* of source.connection"):
            nights.fetch(lake.source(), lake.connection)
        before = set(s3.answer())
        download = nights.fetch(lake.source(), lake.connection)
        assert (len(download.files), download.reused) == (3, 1)
        assert len(set(s3.answer()) - before) == 1  # the second was asked for before it was refused
    finally:
        s3.answer()
    assert "hidden" not in json.dumps(download.model_dump(mode="json"))
    assert not any(b"hidden" in path.read_bytes() for path in nights.folder.rglob("*.json"))


def test_what_is_not_a_table_is_one_sentence(nights, tmp_path, s3):
    (tmp_path / "empty").mkdir()
    for source, connection, sentence in [
        (TableSource(format="delta", path=str(tmp_path / "empty")), None, "is not a Delta table, or is away"),
        (TableSource(format="delta", path="s3://lake/nowhere"), s3.connection(), "is not a Delta table, or is away"),
        (TableSource(format="delta", path="s3://nowhere/t"), s3.connection(), "there is no such bucket"),
        (TableSource(format="iceberg", path=str(tmp_path / "empty")), None, "is not an Iceberg table, or is away"),
        (TableSource(format="iceberg", path="lake.trips"), s3.connection(), "names a table of a catalog"),
        (TableSource(format="iceberg", path="az://lake/trips"), None, "needs pyarrow 20"),
    ]:
        with pytest.raises(RefusedError, match=sentence) as caught:
            nights.fetch(source, connection, start=START)
        assert "\n" not in str(caught.value)


def test_a_version_is_named_in_one_way():
    with pytest.raises(ValidationError, match="a Delta table has no branches or tags"):
        TableSource(format="delta", path="trips", ref="audited")
    with pytest.raises(ValidationError, match="give either `version` or `ref`"):
        TableSource(format="iceberg", path="lake.trips", ref="audited", version=1)


@pytest.mark.slow
def test_tables_are_read_without_tensorflow():
    code = "import sys, nightly.sources.table.delta, nightly.sources.table.iceberg; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_one_sentence_with_its_cause(nights, s3):
    away = s3.connection(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(ConnectionFailedError, match=r"s3://lake/t cannot be read: .*Connection refused") as caught:
        nights.fetch(TableSource(format="delta", path="s3://lake/t"), away)
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)
