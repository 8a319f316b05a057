"""Content in a bucket: one host publishes, another fetches."""

import os

import pytest

from nightly.state.errors import ChangedElsewhereError
from tests.nightly.state.conftest import read, write

FILES = {"rows-0.parquet": b"rows" * 1000, "manifest.json": b'{"rows": 4000}\n', "deep/er/x": b""}


def snapshot(var, name="first"):
    return var / "snapshots/taxi" / name


def test_another_host_gets_the_same_files(hosts):
    with hosts.on("a") as (state, var):
        (snapshot(var) / "empty").mkdir(parents=True)
        state.publish(write(snapshot(var), FILES))
    with hosts.on("b") as (state, var):
        state.fetch(snapshot(var))
        assert read(snapshot(var)) == FILES
        assert (snapshot(var) / "empty").is_dir()


def test_a_content_may_be_one_file(hosts):
    with hosts.on("a") as (state, var):
        state.publish(write(var / "downloads/taxi/bodies", {"hash": b"body"}) / "hash")
    with hosts.on("b") as (state, var):
        state.fetch(var / "downloads/taxi/bodies/hash")
        assert (var / "downloads/taxi/bodies/hash").read_bytes() == b"body"


def test_what_was_never_published_is_not_there(hosts):
    with hosts.on("a") as (state, var):
        state.fetch(snapshot(var))
        assert not snapshot(var).exists()


def test_to_publish_again_sends_no_file(hosts, s3):
    with hosts.on("a") as (state, var):
        state.publish(write(snapshot(var), FILES))
        s3.requests.clear()
        state.publish(snapshot(var))
        assert {method for method, *_ in s3.requests} == {"GET"}


def test_other_content_at_the_same_path_is_refused_until_the_first_is_removed(hosts):
    with hosts.on("a") as (state, var):
        state.publish(write(snapshot(var), FILES))
    with hosts.on("b") as (state, var):
        write(snapshot(var), {**FILES, "rows-0.parquet": b"others"})
        with pytest.raises(ChangedElsewhereError, match="snapshots/taxi/first was published with other content"):
            state.publish(snapshot(var))
        state.remove(snapshot(var))
        assert not snapshot(var).exists()
        state.publish(write(snapshot(var), {"rows-0.parquet": b"others"}))
    with hosts.on("a") as (state, var):
        state.fetch(snapshot(var))
        assert read(snapshot(var)) == {"rows-0.parquet": b"others"}


def test_links_of_earlier_content_upload_no_byte(hosts, s3):
    with hosts.on("a") as (state, var):
        state.publish(write(var / "pipeline/taxi/trainer/model/1", {"weights": b"w" * 10_000}))
    with hosts.on("b") as (state, var):
        state.fetch(var / "pipeline/taxi/trainer/model/1")
        again = var / "pipeline/taxi/trainer/model/2"
        again.mkdir()
        os.link(var / "pipeline/taxi/trainer/model/1/weights", again / "weights")
        s3.requests.clear()
        state.publish(again)
        assert [path.split("/prefix/")[1] for method, path, _ in s3.requests if method == "PUT"] == [
            "manifests/pipeline/taxi/trainer/model/2.json"
        ]


def test_two_contents_share_the_hosts_file(hosts, s3):
    with hosts.on("a") as (state, var):
        for name in ("1", "2"):
            state.publish(write(var / "pipeline/taxi/trainer/model" / name, {"weights": b"w" * 10_000}))
    with hosts.on("b") as (state, var):
        for name in ("1", "2"):
            state.fetch(var / "pipeline/taxi/trainer/model" / name)
        files = [var / "pipeline/taxi/trainer/model" / name / "weights" for name in ("1", "2")]
        assert files[0].samefile(files[1])
        assert len([1 for method, path, _ in s3.requests if method == "GET" and "/blobs/" in path]) == 1
