"""What may happen to hosts and to the bucket in the middle of a night, once each; test_campaign.py has all of it."""

import hashlib
import json
import signal
import time

import pytest

from tests.chaos import processes
from tests.hosts.invariants import violations
from tests.hosts.test_nights import released

AWAY_SECONDS = 60


@pytest.fixture(autouse=True)
def everything_is_up(cluster):
    yield
    cluster.bring_up()


def test_a_retry_on_the_other_host_goes_on_with_the_night(cluster):
    run = cluster.trigger("taxi", "2015-05-10")
    host = cluster.catch("taxi", run, "transform")
    with cluster.resting(host):
        cluster.wait_until(lambda: host.of_kind("step"), 120, "the step has a process")
        processes.send(host.of_kind("step"), signal.SIGKILL)
        released(cluster, "taxi", run)
    tries = [attempt["hostname"] for attempt in cluster.tries("taxi", run, "transform")]
    assert tries == [host.name, cluster.other(host.name).name]


def test_the_night_of_a_killed_host_ends_on_the_other(cluster):
    run = cluster.trigger("taxi", "2015-05-11")
    host = cluster.catch("taxi", run, "trainer")
    with cluster.without(host, emptied=True):
        released(cluster, "taxi", run)
    tries = [attempt["hostname"] for attempt in cluster.tries("taxi", run, "trainer")]
    assert tries[0] == host.name and tries[-1] == cluster.other(host.name).name


def test_caches_are_emptied_between_tasks(cluster):
    run = cluster.trigger("taxi", "2015-05-12")
    for task in ("snapshot", "data_gate", "trainer"):
        cluster.catch("taxi", run, task)
        with cluster.between_tasks():
            cluster.empty_caches()
    released(cluster, "taxi", run)


@pytest.mark.parametrize("how", ["silent", "refusing"])
def test_the_bucket_is_away_for_a_minute(cluster, how):
    run = cluster.trigger("fares", "2015-05-13" if how == "silent" else "2015-05-14")
    cluster.catch("fares", run, "examples")
    with getattr(cluster.bucket, how)():
        time.sleep(AWAY_SECONDS)
    released(cluster, "fares", run)


def test_a_snapshot_whose_blobs_have_other_bytes_is_made_again(cluster):
    run = cluster.trigger("taxi", "2015-05-15")
    cluster.catch("taxi", run, "snapshot")
    with cluster.between_tasks():
        snapshot = cluster.bucket.record("nights", "taxi", cluster.paths.night("taxi", run).name, "snapshot.json")
        key = f"manifests/snapshots/taxi/{snapshot['snapshot_id']}.json"
        manifest = json.loads(cluster.bucket.read(key))
        blobs = {f"blobs/{file['sha256']}" for name, file in manifest["files"].items() if name.endswith(".parquet")}
        whole = {blob: cluster.bucket.read(blob) for blob in blobs}
        assert all(whole.values()), f"the bucket has no {blobs}"
        for blob, body in whole.items():
            cluster.bucket.write(blob, body[:-1] + bytes([body[-1] ^ 1]))
        cluster.empty_caches()
    released(cluster, "taxi", run)
    manifest = json.loads(cluster.bucket.read(key))
    for name, file in manifest["files"].items():
        if name.endswith(".parquet"):
            assert hashlib.sha256(cluster.bucket.read(f"blobs/{file['sha256']}")).hexdigest() == file["sha256"]


def test_everything_agrees_afterwards(cluster):
    cluster.wait_until(lambda: not violations(cluster), 120, "everything agrees")
    assert violations(cluster) == []
