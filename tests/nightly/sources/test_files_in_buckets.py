"""Objects in buckets as a source: real servers of S3, Cloud Storage and Azure, and their faults."""

import datetime as dt
import hashlib
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nightly.io.polling import poll
from nightly.io.space import SpaceError
from nightly.records.connection import Connection, variable
from nightly.records.data_config import Data
from nightly.records.source_config import FilesSource
from nightly.snapshots.errors import UnreadableBodyError
from nightly.snapshots.readers import bodies
from nightly.sources import fetch
from nightly.sources.errors import (
    ConnectionFailedError,
    NoAccessError,
    NothingFoundError,
    PathNotFoundError,
    SourceError,
    UnreadableFileError,
)
from nightly.sources.files import stores
from tests.support import object_stores

WINDOW = {"window_start": dt.datetime(2016, 3, 1, tzinfo=dt.UTC), "window_end": dt.datetime(2016, 3, 4, tzinfo=dt.UTC)}
SECRETS = ("planted-secret", "wrong-secret", object_stores.AZURITE_KEY)


@pytest.fixture(scope="module")
def s3():
    with object_stores.s3() as store:
        days(store)
        yield store


@pytest.fixture(autouse=True)
def no_fault_is_left(request):
    yield
    if "s3" in request.fixturenames:
        store = request.getfixturevalue("s3")
        store.faults.clear()
        store.requests.clear()


def days(store):
    for day in range(1, 6):
        store.put(f"lake/trips/2016/03/{day:02}/rows.csv", f"day,a\n2016-03-{day:02},{day}\n".encode())
        store.put(f"lake/hive/day=2016-03-{day:02}/city=New%20York/rows.csv", f"a\n{day}\n".encode())
    store.put("lake/trips/2016/03/01/_temporary.csv", b"half a r")
    store.put("lake/trips/2016/03/01/.hidden.csv", b"half a r")
    store.put("lake/trips/_SUCCESS", b"x")
    store.put("lake/one", b"day,a\n2016-03-01,1\n")


def download(store, path, folder, connection=None, **options):
    data = Data(id_columns=[], time_column="day", label={"column": "a", "positive": ["1"]})
    config = FilesSource(path=path, connection="lake", **options.pop("config", {}))
    return fetch(config, folder=folder, data=data, connection=connection or store.connection, **{**WINDOW, **options})


def keys(result, scheme="s3"):
    return [file.origin.removeprefix(f"{scheme}://lake/") for file in result.files]


DAY = "trips/2016/03/{:02}/rows.csv"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("trips/{date:%Y/%m/%d}/*.csv", [1, 2, 3]),
        ("trips/{date:%Y/%m/%d}/rows.csv", [1, 2, 3]),
        ("trips/{date:%Y}/{date:%m}/{date:%d}", [1, 2, 3]),
        ("trips/{date:%Y/%m}/", [1, 2, 3, 4, 5]),
        ("trips", [1, 2, 3, 4, 5]),
        ("trips/**/*.csv", [1, 2, 3, 4, 5]),
        ("trips/2016/*/0[!135]", [2, 4]),
        (DAY.format(4), [4]),
        ("trips/{date:%Y/%d/%m}/rows.csv", [3]),
        ("trips/{date:%Y}.csv", []),
    ],
)
def test_what_a_path_lists(s3, tmp_path, path, found):
    assert keys(download(s3, f"s3://lake/{path}", tmp_path)) == [DAY.format(day) for day in found]


def test_a_window_is_one_listing_and_its_own_objects(s3, tmp_path):
    s3.requests.clear()
    download(s3, "s3://lake/trips/{date:%Y/%m/%d}/*.csv", tmp_path)
    listings = [method for method, path, _ in s3.requests if path.strip("/") == "lake"]
    assert listings == ["GET"] * 3, "two look for the log of a table"
    assert s3.bodies() == [DAY.format(day) for day in (1, 2, 3)]


def test_folders_give_columns_and_those_of_the_time_column_limit_the_window(s3, tmp_path):
    files = download(s3, "s3://lake/hive", tmp_path).files
    assert [file.partition for file in files] == [{"day": f"2016-03-0{day}", "city": "New York"} for day in (1, 2, 3)]


def test_days_before_and_after_for_files_that_are_dated_by_arrival(s3, tmp_path):
    path = "s3://lake/trips/{date:%Y/%m/%d}"
    late = download(s3, path, tmp_path, config={"extra_days": 1}, as_of=dt.datetime(2016, 3, 10, tzinfo=dt.UTC))
    assert keys(late) == [DAY.format(day) for day in (1, 2, 3, 4)]
    # A night of the past does not read what arrived after its as-of time.
    assert keys(download(s3, path, tmp_path, config={"extra_days": 1})) == [DAY.format(day) for day in (1, 2, 3)]


def test_a_night_fetches_what_it_does_not_have(s3, tmp_path):
    path = "s3://lake/again/{date:%Y-%m-%d}.csv"
    for day in (1, 2, 3):
        s3.put(f"lake/again/2016-03-0{day}.csv", b"day,a\n2016-03-01,1\n")
    download(s3, path, tmp_path, run_id="first")
    s3.bodies()
    s3.put("lake/again/2016-03-02.csv", b"day,a\n2016-03-02,2\n")
    second = download(s3, path, tmp_path, run_id="second")
    assert s3.bodies() == ["again/2016-03-02.csv"]
    assert second.reused == 2
    assert Path(second.files[1].path).read_bytes() == b"day,a\n2016-03-02,2\n"


def test_an_object_that_is_gone_is_said_once(s3, tmp_path):
    path = "s3://lake/gone/{date:%Y/%m/%d}/*.csv"
    for name in ("01/a.csv", "01/b.csv", "02/a.csv", "05/a.csv"):
        s3.put(f"lake/gone/2016/03/{name}", f"day,a\n2016-03-{name[:2]},1\n".encode())
    download(s3, path, tmp_path, run_id="first", window_end=dt.datetime(2016, 3, 10, tzinfo=dt.UTC))
    for name in ("01/b.csv", "05/a.csv"):
        s3.delete(f"lake/gone/2016/03/{name}")
    s3.put("lake/gone/2016/03/02/a.csv", b"day,a\n2016-03-02,2\n")
    for _ in range(2):  # the run is tried again
        second = download(s3, path, tmp_path, run_id="second")
        assert second.removed == ["s3://lake/gone/2016/03/01/b.csv"]
        assert second.revised == ["s3://lake/gone/2016/03/02/a.csv"]
        assert keys(second) == ["gone/2016/03/01/a.csv", "gone/2016/03/02/a.csv"]
    assert re.fullmatch(
        r"1 of 2 parts has changed at the source since [^;]*02/a\.csv; 1 file is gone from the source since .*/b\.csv",
        second.revision,
    )
    assert download(s3, path, tmp_path, run_id="third").revision == ""
    third = download(s3, path, tmp_path, run_id="fourth", window_end=dt.datetime(2016, 3, 10, tzinfo=dt.UTC))
    assert third.removed == ["s3://lake/gone/2016/03/05/a.csv"], "it is in this window"


def test_objects_without_dates_that_are_all_replaced_are_not_said(s3, tmp_path):
    def night(run_id, *names):
        for name in set("abc") - set(names):
            s3.delete(f"lake/export/{name}.csv")
        for name in names:
            s3.put(f"lake/export/{name}.csv", f"day,a\n2016-03-01,{name}\n".encode())
        return download(s3, "s3://lake/export", tmp_path, run_id=run_id).removed

    assert night("first", "a") == night("second", "b") == night("third", "b", "c") == []
    assert night("fourth", "c") == ["s3://lake/export/b.csv"]


def test_a_day_without_a_file_is_said(s3, tmp_path, caplog):
    s3.put("lake/gap/2016-03-02.csv", b"day,a\n2016-03-01,1\n")
    with caplog.at_level("WARNING"):
        assert len(download(s3, "s3://lake/gap/{date:%Y-%m-%d}.csv", tmp_path).files) == 1
    assert (
        "2 dates of the window have no file: s3://lake/gap/2016-03-01.csv, s3://lake/gap/2016-03-03.csv" in caplog.text
    )


def test_a_format_for_names_that_do_not_tell(s3, tmp_path):
    (file,) = download(s3, "s3://lake/one", tmp_path, config={"format": "csv"}).files
    assert file.path.endswith(".csv")


@pytest.mark.parametrize("config", [{}, {"format": "csv"}])
@pytest.mark.parametrize("path", ["marked", "marked/", "marked/*"])
def test_an_object_that_marks_a_folder_is_no_file(s3, tmp_path, config, path):
    for key in ("marked/", "marked/old/", "marked/old/empty/"):
        s3.put(f"lake/{key}", b"")
    s3.put("lake/marked/old/rows.csv", b"day,a\n2016-03-01,1\n")
    assert keys(download(s3, f"s3://lake/{path}", tmp_path, config=config)) == ["marked/old/rows.csv"]


def test_a_zip_is_read_as_its_format_says_or_refused(s3, tmp_path):
    with zipfile.ZipFile(tmp_path / "trips.zip", "w") as archive:
        archive.writestr("trips.txt", "day,a\n2016-03-01,1\n")
    s3.put("lake/zip/trips.zip", (tmp_path / "trips.zip").read_bytes())
    (file,) = download(s3, "s3://lake/zip", tmp_path).files
    with pytest.raises(UnreadableBodyError, match="a zip archive without a file that can be read"):
        list(bodies(Path(file.path), file.suffix))
    (file,) = download(s3, "s3://lake/zip", tmp_path, config={"format": "csv"}).files
    assert [body.headers for body in bodies(Path(file.path), file.suffix)] == [["day", "a"]]


MEGABYTES = os.urandom(1 << 20) * 20


@pytest.fixture(scope="module")
def large(s3):
    s3.put("lake/large.csv", MEGABYTES)
    return "s3://lake/large.csv"


def test_broken_connections_are_resumed(s3, large, tmp_path, monkeypatch):
    """More of them than the client bears by itself."""
    monkeypatch.setattr("nightly.sources.files.transfer.FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setitem(stores.RETRIES, "max_retries", 0)
    s3.faults.extend([{"after": 6 << 20}, {"after": 5 << 20}, {"after": 4 << 20}])
    (file,) = download(s3, large, tmp_path).files
    assert file.sha256 == hashlib.sha256(MEGABYTES).hexdigest()
    starts = [int(headers["RANGE"][6:].rstrip("-")) for method, path, headers in s3.requests if "RANGE" in headers]
    assert starts[0] == 0
    assert starts == sorted(starts)
    assert starts[-1] > 8 << 20


def test_an_object_that_changes_while_it_is_read_is_read_anew(s3, tmp_path, monkeypatch):
    monkeypatch.setitem(stores.RETRIES, "max_retries", 0)
    monkeypatch.setattr("nightly.sources.files.transfer.FIRST_WAIT_SECONDS", 0.01)
    old, new = b"1" * (9 << 20), b"2" * (10 << 20)
    s3.put("lake/changing.csv", old)
    s3.faults.extend([{"after": 5 << 20}, {"then": lambda: s3.put("lake/changing.csv", new)}])
    (file,) = download(s3, "s3://lake/changing.csv", tmp_path).files
    assert file.sha256 == hashlib.sha256(new).hexdigest()
    assert download(s3, "s3://lake/changing.csv", tmp_path, run_id="next").reused == 1


PROGRAM = """
import datetime, pathlib, sys
from nightly.records.connection import Connection
from nightly.records.source_config import FilesSource
from nightly.sources import fetch
start = datetime.datetime(2016, 3, 1, tzinfo=datetime.UTC)
fetch(
    FilesSource(path=sys.argv[1], connection="lake"),
    folder=pathlib.Path(sys.argv[2]),
    connection=Connection.from_environment("lake"),
    window_start=start,
    window_end=start + datetime.timedelta(days=3),
)
"""


def test_a_transfer_that_is_killed_goes_on(s3, large, tmp_path):
    s3.faults.append({"after": 12 << 20, "stall": 30})
    environment = os.environ | {variable("lake"): s3.connection.dump()}
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, large, str(tmp_path)], env=environment)
    parts = poll(
        lambda: [path for path in tmp_path.rglob("*.part") if path.stat().st_size >= 8 << 20],
        until=lambda parts: parts or child.poll() is not None,
        every=0.05,
        seconds=60,
    )
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert parts, "8 MB were not fetched"
    assert not [*tmp_path.glob("bodies/*")]
    s3.requests.clear()
    (file,) = download(s3, large, tmp_path).files
    assert file.sha256 == hashlib.sha256(MEGABYTES).hexdigest()
    (start,) = [headers["RANGE"] for _, _, headers in s3.requests if "RANGE" in headers]
    assert int(start[6:].rstrip("-")) >= 8 << 20
    assert not [*tmp_path.glob("partial/*")]


def test_a_token_that_expires_in_the_middle_keeps_what_is_fetched(s3, tmp_path):
    path = "s3://lake/trips/{date:%Y/%m/%d}/*.csv"
    s3.faults.extend([{}, {"code": "ExpiredToken"}])
    with pytest.raises(NoAccessError, match=r"02/rows\.csv: the token of the connection 'lake' has expired: renew it"):
        download(s3, path, tmp_path)
    s3.bodies()
    assert len(download(s3, path, tmp_path).files) == 3
    assert s3.bodies() == [DAY.format(2), DAY.format(3)]


@pytest.mark.parametrize(
    ("path", "faults", "error", "words"),
    [
        ("s3://lake/absent.csv", [], PathNotFoundError, "no such object or folder"),
        ("s3://lake/absent/*.csv", [], PathNotFoundError, "no such object or folder"),
        ("s3://nowhere/a.csv", [], PathNotFoundError, "s3://nowhere does not exist"),
        ("s3://nowhere/{date:%Y}/a.csv", [], PathNotFoundError, "s3://nowhere does not exist"),
        ("s3://lake/one", [], NothingFoundError, r"no file that can be read.*found: one"),
        ("s3://lake/empty.csv", [], UnreadableFileError, "is empty"),
        (
            f"s3://lake/{DAY.format(1)}",
            [{"code": "InvalidAccessKeyId"}],
            NoAccessError,
            "keys of the connection 'lake'",
        ),
        (f"s3://lake/{DAY.format(1)}", [{"code": "SignatureDoesNotMatch"}], NoAccessError, "are wrong"),
        (f"s3://lake/{DAY.format(1)}", [{"code": "AccessDenied"}], NoAccessError, "'lake' may not read it"),
        ("s3://lake/{date}/a.csv", [], PathNotFoundError, "has no format; write {date:%Y-%m-%d}"),
    ],
)
def test_what_is_wrong_is_one_sentence(s3, tmp_path, path, faults, error, words):
    s3.put("lake/empty.csv", b"")
    s3.faults.extend(faults)
    with pytest.raises(error, match=words) as raised:
        fetch(
            FilesSource(path="unused", connection="lake"),
            address=path,
            folder=tmp_path,
            connection=s3.connection,
            **WINDOW,
        )
    assert_one_sentence(raised.value)


def assert_one_sentence(error):
    text = str(error)
    assert not any(secret in text for secret in SECRETS)
    assert "\n" not in text
    assert "Debug source" not in text
    assert len(text) < 300


def test_nobody_answers(s3, tmp_path, monkeypatch):
    monkeypatch.setitem(stores.RETRIES, "max_retries", 0)
    gone = s3.connection.model_copy(update={"extra": {**s3.connection.extra, "endpoint_url": "http://127.0.0.1:9"}})
    with pytest.raises(ConnectionFailedError, match="Connection refused") as raised:
        download(s3, "s3://lake/trips", tmp_path, gone)
    assert_one_sentence(raised.value)


def test_wrong_keys_of_a_server_that_looks(tmp_path, s3):
    """Moto checks signatures after `reset-auth`."""
    import requests

    requests.post(f"{s3.address}/moto-api/reset-auth", data=b"0", timeout=10)
    try:
        with pytest.raises(NoAccessError, match="the keys of the connection 'lake' are wrong") as raised:
            download(s3, "s3://lake/trips", tmp_path)
        assert_one_sentence(raised.value)
        with pytest.raises(NoAccessError, match=r"the keys of the connection 'lake' are wrong|may not read it"):
            download(s3, f"s3://lake/{DAY.format(1)}", tmp_path)
    finally:
        requests.post(f"{s3.address}/moto-api/reset-auth", data=b"1000000", timeout=10)


def test_a_role_is_refused_in_words(s3, tmp_path):
    connection = Connection(conn_type="aws", extra={"role_arn": "arn:aws:iam::1:role/reader"})
    with pytest.raises(SourceError, match="has `role_arn` in its extra, which a source cannot use"):
        download(s3, "s3://lake/trips", tmp_path, connection)


def test_a_full_disk_is_noticed_before_the_transfer(s3, large, tmp_path, monkeypatch):
    monkeypatch.setattr("nightly.io.space.free_bytes", lambda folder: 70 << 20)
    with pytest.raises(SpaceError, match="has 70 MB free"):
        download(s3, large, tmp_path)
    assert not [*tmp_path.rglob("*.part"), *tmp_path.rglob("bodies/*")]


def test_cloud_storage(tmp_path):
    with object_stores.cloud_storage() as store:
        days(store)
        result = download(store, "gs://lake/trips/{date:%Y/%m/%d}/*.csv", tmp_path, run_id="first")
        assert keys(result, "gs") == [DAY.format(day) for day in (1, 2, 3)]
        assert Path(result.files[2].path).read_bytes() == b"day,a\n2016-03-03,3\n"
        store.put(f"lake/{DAY.format(2)}", b"day,a\n2016-03-02,9\n")
        again = download(store, "gs://lake/trips/{date:%Y/%m/%d}/*.csv", tmp_path, run_id="second")
        assert again.reused == 2
        assert Path(again.files[1].path).read_bytes() == b"day,a\n2016-03-02,9\n"
        assert len(download(store, "gs://lake/hive", tmp_path).files) == 3
        with pytest.raises(PathNotFoundError, match="no such object"):
            download(store, "gs://lake/absent.csv", tmp_path)


def test_azure(tmp_path):
    with object_stores.azure(tmp_path / "azurite") as store:
        days(store)
        path = "az://lake/trips/{date:%Y/%m/%d}/*.csv"
        assert keys(download(store, path, tmp_path, run_id="first"), "az") == [DAY.format(day) for day in (1, 2, 3)]
        assert download(store, path, tmp_path, run_id="second").reused == 3
        login = Connection(
            conn_type="wasb", login="devstoreaccount1", password=object_stores.AZURITE_KEY, host=store.address
        )
        assert len(download(store, path, tmp_path, login).files) == 3
        wrong = login.model_copy(update={"password": type(login.password)("d3Jvbmctc2VjcmV0")})
        with pytest.raises(NoAccessError, match="connection 'lake'") as raised:
            download(store, "az://lake/hive", tmp_path, wrong)
        assert_one_sentence(raised.value)
        with pytest.raises(PathNotFoundError, match="az://nowhere does not exist"):
            download(store, "az://nowhere/a.csv", tmp_path)
