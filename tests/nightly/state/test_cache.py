"""The cache of a host: its bound, and what stays in it."""

import os
import subprocess
import sys
import threading

import pytest

from nightly.io.paths import python_path
from nightly.io.space import SpaceError, size_of
from nightly.state.bucket import BucketState
from nightly.state.cache import Cache
from tests.nightly.state.conftest import read, write

MB = 1_000_000


@pytest.fixture
def four(hosts):
    """Contents of 1 MB each: pipeline/taxi/trainer/model/1 to 4."""
    with hosts.on("a") as (state, var):
        for n in range(4):
            state.publish(write(path(var, n), {"weights": bytes([n]) * MB, "x.json": b"{}"}))


def path(var, n):
    return var / f"pipeline/taxi/trainer/model/{n}"


def test_what_was_used_last_stays(hosts, four, monkeypatch):
    monkeypatch.setenv("NIGHTLY_CACHE_BYTES", str(2 * MB + 100))
    with hosts.on("b") as (state, var):
        for n in (0, 1, 0, 2):
            state.fetch(path(var, n))
        assert [n for n in range(4) if path(var, n).exists()] == [0, 2]
        assert len(list((var / "cache/blobs").iterdir())) == 2
        state.fetch(path(var, 1))
        assert read(path(var, 1)) == {"weights": b"\1" * MB, "x.json": b"{}"}


def test_a_disk_without_room_for_a_content_is_said_before_the_download(hosts, small_disk, monkeypatch):
    with hosts.on("a") as (state, var):
        state.publish(write(path(var, 0), {"weights": bytes(20 << 20), "x.json": b"{}"}))
    with hosts.on("b") as (_, _):
        monkeypatch.setenv("NIGHTLY_VAR", str(small_disk))
        with pytest.raises(SpaceError, match=r"80 MB free.* needs 84 MB\. Make room, or lower NIGHTLY_CACHE_BYTES\.$"):
            BucketState(hosts.address).fetch(path(small_disk, 0))
        assert size_of(small_disk) < 10_000


def test_what_an_open_session_holds_stays(hosts, four, monkeypatch, caplog):
    monkeypatch.setenv("NIGHTLY_CACHE_BYTES", str(2 * MB))
    with hosts.on("b") as (state, var):
        with state.session("taxi"):
            for n in range(4):
                state.fetch(path(var, n))
            assert all(path(var, n).exists() for n in range(4))
            assert "its content is in use" in caplog.text
        state.fetch(path(var, 3))
        Cache().make_room()
        assert sum(path(var, n).exists() for n in range(4)) == 2


def test_a_content_is_held_while_another_process_evicts(hosts, four, monkeypatch):
    with hosts.on("b") as (state, var):
        state.fetch(path(var, 0))
        monkeypatch.setenv("NIGHTLY_CACHE_BYTES", "10")
        with state.session("taxi"):
            other, fetch = Cache(), threading.Thread(target=state.fetch, args=[path(var, 0)])

            def held() -> set[str]:
                names = Cache.held(other)
                fetch.start()
                fetch.join(1)
                return names

            other.held = held
            other.make_room()
            fetch.join()
            assert path(var, 0).exists()


def test_a_listed_snapshot_stays_listed(hosts, monkeypatch):
    with hosts.on("a") as (state, var):
        state.publish(write(var / "snapshots/taxi/1", {"manifest.json": b"{}", "rows": b"1" * MB}))
    monkeypatch.setenv("NIGHTLY_CACHE_BYTES", "10")
    with hosts.on("b") as (state, var):
        state.fetch(var / "snapshots/taxi/1")
        assert len(list((var / "snapshots/taxi/1").iterdir())) == 2  # what was fetched is there, however large
        Cache().make_room()
        assert [each.name for each in (var / "snapshots/taxi/1").iterdir()] == ["manifest.json"]


def test_a_changed_copy_is_made_again(hosts, four, s3):
    with hosts.on("b") as (state, var):
        state.fetch(path(var, 1))
        with (path(var, 1) / "weights").open("r+b") as file:  # and so in the cache
            file.write(b"other")
        (path(var, 1) / "extra").touch()
        (path(var, 1) / "x.json").unlink()
        state.fetch(path(var, 1))
        assert read(path(var, 1)) == {"weights": b"\1" * MB, "x.json": b"{}"}


def test_the_cache_may_be_removed(hosts, four, s3):
    with hosts.on("b") as (state, var):
        state.fetch(path(var, 1))
        subprocess.run(["rm", "-r", var / "cache"], check=True)
    s3.requests.clear()
    with hosts.on("b") as (state, var):
        state.fetch(path(var, 1))
        assert not [1 for _, requested, _ in s3.requests if "/blobs/" in requested]  # what is in place is hashed
        state.fetch(path(var, 2))
        assert path(var, 2).exists()


def test_processes_of_a_host_fetch_one_content_at_once(hosts, four, s3, tmp_path):
    code = "from nightly.io.paths import Paths; from nightly.state import fetch; "
    code += "fetch(Paths.from_environment().pipeline / 'taxi/trainer/model/1')"
    environment = {**os.environ, "PYTHONPATH": python_path(), "NIGHTLY_VAR": str(tmp_path / "c")}
    s3.requests.clear()
    children = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert len([1 for _, requested, _ in s3.requests if "/blobs/" in requested]) == 1
    assert read(path(tmp_path / "c", 1)) == {"weights": b"\1" * MB, "x.json": b"{}"}
