"""A disk without room is said before the write, with figures; on a real small file system."""

import contextlib
import http.server
import threading

import pyarrow as pa
import pytest

from nightly.cli import night as nights
from nightly.io.paths import Paths
from nightly.io.space import SpaceError, check_space, full_disk_explained, size_of
from nightly.nights.space import check_night, check_node
from nightly.records.night import Download
from nightly.records.verdict import Outcome, Verdict
from nightly.snapshots.builder import SnapshotBuilder
from nightly.snapshots.store import SnapshotStore
from nightly.sources.http.download import download
from tests.support.nights import utc


@pytest.fixture
def small(small_disk):
    return small_disk


def test_what_has_room_is_let_through_and_what_has_not_is_said_with_figures(small):
    check_space({small / "a/b": 10 * 2**20}, "it")
    with pytest.raises(SpaceError, match=r"80 MB free, and it needs 164 MB\. Make room, or lower \[retention"):
        check_space({small / "a": 50 * 2**20, small / "b": 50 * 2**20}, "it")


def test_a_disk_that_becomes_full_meanwhile_is_said_too(small):
    with (
        pytest.raises(SpaceError, match="became full while a file was written: 0 MB are free now"),
        full_disk_explained(small, "a file"),
        (small / "file").open("wb") as file,
    ):
        file.write(b"x" * 100 * 2**20)
    (small / "file").unlink()


def test_a_night_is_not_begun_without_room_for_twice_the_last(small, monkeypatch):
    monkeypatch.setenv("NIGHTLY_VAR", str(small / "var"))
    paths = Paths.from_environment()
    with pytest.raises(SpaceError, match="a first night of taxi needs 320 MB"):
        check_night(paths, "taxi")
    window = {"window_start": utc(2016, 1, 1), "window_end": utc(2016, 1, 2), "fetched_at": utc(2016, 1, 2)}
    download = Download(kind="http", files=[], **window, parts=9, reused=8, fetched_bytes=2 * 2**20)
    download.save(paths.nights / "taxi/night-1/download.json")
    for path, size in {
        "snapshots/taxi/abc/rows.parquet": 1,
        "pipeline/taxi/trainer/model/9/old": 30, "pipeline/taxi/trainer/model/10/new": 1,
    }.items():  # fmt: skip
        file = small / "var" / path
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * size * 2**20)
    with pytest.raises(
        SpaceError, match=r"48 MB free, and a night of taxi \(twice what the last one took\) needs 72 MB"
    ):
        check_night(paths, "taxi")
    (small / "var/pipeline/taxi/trainer/model/9/old").unlink()
    check_night(paths, "taxi")
    assert size_of(paths.pipeline) == 2**20


def test_a_night_is_not_begun_without_room_for_its_version_on_the_serving_volume(small, tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("NIGHTLY_SERVING", str(small))
    paths = Paths.from_environment()
    check_night(paths, "taxi")
    file = small / "taxi/1700000000/saved_model.pb"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x" * 10 * 2**20)
    with pytest.raises(
        SpaceError, match=r"small/taxi has 70 MB free, and a night of taxi \(twice what the last one took\) needs 84 MB"
    ):
        check_night(paths, "taxi")
    (small / "other").write_bytes(b"x" * 60 * 2**20)
    file.unlink()
    with pytest.raises(SpaceError, match=r"20 MB free, and a first night of taxi needs 64 MB"):
        check_night(paths, "taxi")


def test_the_verdict_of_a_night_without_room_says_what_frees_some(small, monkeypatch, capsys):
    monkeypatch.setenv("NIGHTLY_VAR", str(small / "var"))
    assert nights.main(["taxi", "--as-of", "2015-05-01"]) == 2
    assert "a first night of taxi needs 320 MB" in capsys.readouterr().err
    (path,) = (small / "var/nights/taxi").glob("*/verdict.json")
    verdict = Verdict.load(path)
    assert verdict.outcome is Outcome.FAILED
    assert "has 80 MB free" in path.read_text() and "bin/snapshots prune MODEL`." in path.read_text()
    assert "tried again" not in path.read_text()


def test_a_node_is_not_begun_without_room_for_its_outputs(small):
    examples, root = small / "examples/examples/1", small
    examples.mkdir(parents=True)
    (examples / "data").write_bytes(b"x" * 10 * 2**20)
    with pytest.raises(SpaceError, match=r"70 MB free, and transform \(as its inputs\) needs 74 MB"):
        check_node(root, "transform", [examples])
    check_node(root, "statistics", [])
    with pytest.raises(SpaceError, match=r"70 MB free, and examples \(twice its last outputs\) needs 84 MB"):
        check_node(root, "examples", [])


@pytest.mark.parametrize(
    ("rows", "words"), [(150_000, "a snapshot of 150,000 rows of test needs"), (900_000, "became full")]
)
def test_a_snapshot_that_has_no_room_says_so_and_leaves_nothing(small, rows, words):
    columns = {"day": "timestamp", "text": "string"}
    days = pa.array([utc(2016, 1, 1)] * rows, pa.timestamp("us", "UTC"))
    texts = pa.array([f"{number:092}" for number in range(rows)])
    store = SnapshotStore(small, "test")
    with (
        pytest.raises(SpaceError, match=words),
        SnapshotBuilder(store, columns, time_column="day", id_columns=[]) as builder,
    ):
        builder.add(pa.RecordBatch.from_arrays([days, texts], list(columns)))
        builder.finish(label="text")
    assert list(store.folder.iterdir()) == []


def test_a_download_that_has_no_room_is_refused_before_its_body(small):
    class Large(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/csv")
            if self.path == "/announced":
                self.send_header("Content-Length", str(100 * 2**20))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for _ in range(100):
                    self.wfile.write(b"x" * 2**20)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Large) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(SpaceError, match=r"has 80 MB free, and the download of .* needs 164 MB"):
            download(f"{url}/announced", small / "body.csv")
        with pytest.raises(SpaceError, match=r"became full while the body of .* 0 MB are free"):
            download(f"{url}/unannounced", small / "body.csv")
        assert list(small.iterdir()) == []
        server.shutdown()
