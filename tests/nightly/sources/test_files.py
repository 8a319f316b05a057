"""Local files as a source."""

import datetime as dt
import gzip
import hashlib
import os
import tempfile
import zipfile
from pathlib import Path

import pytest

from nightly.records.source_config import FilesSource
from nightly.snapshots.errors import UnreadableBodyError
from nightly.snapshots.readers import bodies
from nightly.sources import fetch
from nightly.sources.errors import NothingFoundError, PathNotFoundError, UnreadableFileError
from nightly.sources.files.tables import IsTableError, refuse_tables

WINDOW = {"window_start": dt.datetime(2016, 1, 1, tzinfo=dt.UTC), "window_end": dt.datetime(2016, 2, 1, tzinfo=dt.UTC)}
BODY = b"a,b\n1,2\n"


def names(found):
    return [Path(file.path).name for file in found]


def files_at(path, **config):
    """The bodies at a path, of which local ones stay where they are."""
    return fetch(FilesSource(path=str(path), **config), folder=Path(os.environ["NIGHTLY_VAR"]), **WINDOW).files


def test_a_file_is_described_where_it_is(tmp_path):
    path = tmp_path / "one.csv"
    path.write_bytes(BODY)
    download = fetch(FilesSource(path=str(path)), folder=tmp_path / "unused", **WINDOW)
    (file,) = download.files
    assert (file.path, file.bytes, file.sha256) == (str(path), len(BODY), hashlib.sha256(BODY).hexdigest())
    assert not (tmp_path / "unused/bodies").exists()


def test_the_address_of_a_connection_replaces_the_path(tmp_path):
    (tmp_path / "one.csv").write_bytes(BODY)
    download = fetch(FilesSource(path="/nowhere"), address=str(tmp_path), folder=tmp_path, **WINDOW)
    assert names(download.files) == ["one.csv"]


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b/2.csv").write_bytes(BODY)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(BODY))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("inside.csv", BODY)
    (tmp_path / "d.tfrecord").write_bytes(b"x")
    (tmp_path / "e.tfrecord.gz").write_bytes(b"x")
    (tmp_path / "data_tfrecord-00000-of-00001.gz").write_bytes(b"x")
    for other in (".hidden.csv", "_SUCCESS", "notes.txt", "archive.tar.gz"):
        (tmp_path / other).write_bytes(b"x")
    expected = ["a.csv.gz", "2.csv", "c.zip", "d.tfrecord", "data_tfrecord-00000-of-00001.gz", "e.tfrecord.gz"]
    assert names(files_at(tmp_path)) == expected


def test_globs_dates_and_folders(tmp_path):
    for day in (1, 2, 3):
        for city in ("Berlin", "Köln"):
            folder = tmp_path / f"trips/2016-01-0{day}/city={city}"
            folder.mkdir(parents=True)
            (folder / "rows.csv").write_bytes(BODY)
            (folder / "rows.txt").write_bytes(BODY)
            (folder / "_temporary.csv").write_bytes(BODY)
    window = WINDOW | {"window_end": dt.datetime(2016, 1, 3, tzinfo=dt.UTC)}

    def found(path):
        files = fetch(FilesSource(path=f"{tmp_path}/{path}"), folder=tmp_path, **window).files
        return [(Path(file.path).parts[-3], file.partition["city"]) for file in files]

    two_days = [(day, city) for day in ("2016-01-01", "2016-01-02") for city in ("Berlin", "Köln")]
    assert found("trips/{date:%Y-%m-%d}") == two_days
    assert found("trips/{date:%Y-%m-%d}/*/*.csv") == two_days
    assert len(found("trips/**/*.csv")) == len(found("trips")) == 6
    assert found("trips/*2/*/rows.*") == two_days[2:]
    assert found("absent/{date:%Y-%m-%d}.csv") == []
    with pytest.raises(PathNotFoundError, match="no file matches"):
        found("trips/*.csv")


def test_linked_folders_are_read_once(tmp_path):
    for folder in ("rows/2016", "elsewhere", "rows/.versions/1"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "one.csv").write_bytes(BODY)
    root = tmp_path / "rows"
    links = {"2017": "../elsewhere", "current": ".versions/1", "latest": "2016", "loop": ".", "above": ".."}
    for name, target in links.items():
        (root / name).symlink_to(target)
    (tmp_path / "elsewhere/loop").symlink_to(".")
    (tmp_path / "other").mkdir()
    (tmp_path / "elsewhere/other").symlink_to("../other")
    (tmp_path / "other/back").symlink_to("../elsewhere")
    found = [Path(file.path).relative_to(root) for file in files_at(root)]
    assert [str(path.parent) for path in found] == ["2016", "2017", "current"]


def test_a_folder_below_two_links_is_read_once(tmp_path):
    (tmp_path / "data/x").mkdir(parents=True)
    (tmp_path / "data/x/one.csv").write_bytes(BODY)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/a").symlink_to("../data/x")
    (tmp_path / "rows/b").symlink_to("../data")
    assert len(files_at(tmp_path / "rows")) == 1


def test_a_name_with_the_characters_of_a_glob_is_that_file(tmp_path):
    (tmp_path / "rows [1].csv").write_bytes(BODY)
    assert names(files_at(tmp_path / "rows [1].csv")) == ["rows [1].csv"]


def test_folders_above_the_path_give_no_columns(tmp_path):
    folder = tmp_path / "stage=production"
    folder.mkdir()
    (folder / "one.csv").write_bytes(BODY)
    assert [file.partition for file in [*files_at(folder), *files_at(folder / "one.csv")]] == [{}, {}]


def test_a_format_for_names_that_do_not_tell(tmp_path):
    (tmp_path / "export").write_bytes(BODY)
    (tmp_path / "export.gz").write_bytes(gzip.compress(BODY))
    assert [file.suffix for file in files_at(tmp_path, format="csv")] == [".csv", ".csv.gz"]
    assert names(files_at(tmp_path / "export", format="csv")) == ["export"]


def test_a_file_that_is_being_written_says_so(tmp_path, monkeypatch):
    path = tmp_path / "one.csv"
    path.write_bytes(BODY)

    def hash_and_append(file):
        with file.open("ab") as opened:
            opened.write(b"3,4\n")
        return "0" * 64

    monkeypatch.setattr("nightly.sources.files.local.hash_file", hash_and_append)
    with pytest.raises(UnreadableFileError, match=r"was changed while it was read.*renamed when it is complete"):
        files_at(path)


def test_a_file_in_a_package_of_the_ml_environment():
    (file,) = files_at("package:tfx/examples/chicago_taxi_pipeline/data/big_tipper_label/data.csv")
    assert file.bytes == 1_952_827


def test_a_missing_ml_environment_says_what_to_do(monkeypatch):
    monkeypatch.setenv("NIGHTLY_ML_PYTHON", "/nowhere/python")
    with pytest.raises(PathNotFoundError, match=r"/nowhere/python does not run.*NIGHTLY_ML_PYTHON"):
        files_at("package:tfx/x.csv")


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        (None, b"", PathNotFoundError, "does not exist"),
        ("data.orc", b"x", NothingFoundError, r"not of a kind.*\.csv"),
        ("data.csv", b"", UnreadableFileError, "is empty"),
        ("data.zip", b"not a zip", UnreadableFileError, "not a zip archive"),
        ("data.zip", b"PK\x03\x04" + b"of which the end is missing", UnreadableFileError, "truncated or damaged"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, name, content, error, words):
    path = tmp_path / (name or "absent.csv")
    if name:
        path.write_bytes(content)
    with pytest.raises(error, match=words):
        files_at(path)


def test_a_folder_without_data_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(NothingFoundError, match=r"found: notes\.txt"):
        files_at(tmp_path)


def members(file):
    """The bodies in a downloaded file, by their names in its archive."""
    return [body.name.rpartition(":")[2] for body in bodies(Path(file.path), file.suffix, file.partition)]


def test_a_zip_without_a_file_that_can_be_read_is_an_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("notes.txt", "x")
        archive.writestr("__MACOSX/._data.csv", "x")
    with pytest.raises(UnreadableBodyError, match=r"c\.zip is a zip archive without a file .*\.csv, .*source\.format"):
        members(*files_at(tmp_path))


def test_a_format_applies_to_the_files_of_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        for name in ("trips.txt", "old/trips", "__MACOSX/._trips.txt", ".DS_Store"):
            archive.writestr(name, BODY)
    assert members(*files_at(tmp_path, format="csv")) == ["old/trips", "trips.txt"]


@pytest.fixture
def closed_folder(monkeypatch):
    """A folder with the file 2016/one.csv and a folder 2017 that may not be read, by a user who is not root."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        root, var = Path(folder, "rows"), Path(folder, "var")
        for own, mode in ((root.parent, 0o755), (root, 0o755), (var, 0o777)):
            own.mkdir(exist_ok=True)
            own.chmod(mode)
        monkeypatch.setenv("NIGHTLY_VAR", str(var))
        for name in ("2016", "2017", "_old", "lost+found"):
            (root / name).mkdir()
            (root / name / "one.csv").write_bytes(BODY)
            (root / name).chmod(0o755 if name == "2016" else 0)
        if is_root:
            os.seteuid(65534)
        yield root
        if is_root:
            os.seteuid(0)
        for child in root.iterdir():
            child.chmod(0o755)


@pytest.mark.parametrize("path", ["", "*/one.csv", "**/*.csv", "201*"])
def test_a_folder_that_may_not_be_read_is_not_passed_over(closed_folder, path):
    with pytest.raises(UnreadableFileError, match=f"{closed_folder}/2017 may not be read by this user"):
        files_at(closed_folder / path)
    assert len(files_at(closed_folder / "2016")) == 1


def test_a_closed_folder_that_has_no_data_by_its_name_is_passed_over(closed_folder):
    os.seteuid(os.getuid())
    (closed_folder / "2017").chmod(0o755)
    if os.geteuid() == 0:
        os.seteuid(65534)
    for path in ("", "*", "*/one.csv", "**/*.csv"):
        assert len(files_at(closed_folder / path)) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "one.csv"
    path.write_bytes(BODY)
    path.chmod(0)
    with pytest.raises(UnreadableFileError, match="may not be read"):
        files_at(path)


@pytest.mark.parametrize(
    ("log", "table"),
    [
        ("_delta_log/00000000000000000000.json", "delta"),
        ("metadata/v3.metadata.json", "iceberg"),
        ("metadata/v3.gz.metadata.json", "iceberg"),
        ("metadata/00001-5f2c.metadata.json", "iceberg"),
        ("metadata/00001-5f2c.gz.metadata.json", "iceberg"),
    ],
)
def test_a_table_is_recognized_by_its_log(log, table):
    paths = ["s3://lake/trips/part-0.parquet", f"s3://lake/trips/{log}"]
    with pytest.raises(IsTableError, match=f'format = "{table}"') as error:
        refuse_tables(paths)
    assert (error.value.format, error.value.path) == (table, "s3://lake/trips")
    refuse_tables(["s3://lake/trips/metadata/stations.metadata.json", "s3://lake/trips/metadata/v3.json"])
