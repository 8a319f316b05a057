"""Whole nights of two models over two hosts that share no disk."""

import pytest

from nightly.records.verdict import Outcome
from tests.hosts.cluster import WORKERS

MODELS = ("taxi", "fares")


@pytest.fixture(scope="module")
def first(cluster):
    """The first night of each model, both at once."""
    runs = {model: cluster.trigger(model, "2015-05-01") for model in MODELS}
    for model, run in runs.items():
        cluster.wait_for(model, run)
    return runs


def test_a_host_sees_no_file_of_another(cluster):
    for name, host in cluster.hosts.items():
        done = host.run("bash", "-c", f"hostname; echo {name} > {cluster.var}/own; echo {name} > /tmp/own; ls /tmp")
        assert done.stdout.split()[0] == name, done.stderr
        assert str(cluster.folder / "hosts") not in host.run("find", cluster.folder, "-maxdepth", "1").stdout
        assert host.run("touch", "/usr/lib/own", cluster.project / "own").returncode, "no other folder is writable"
    for name, host in cluster.hosts.items():
        assert host.run("cat", cluster.var / "own", "/tmp/own").stdout.split() == [name, name]
        host.run("rm", cluster.var / "own", "/tmp/own")
    assert not (cluster.var / "own").exists()


def test_the_first_night_of_each_model_releases_over_both_hosts(cluster, first):
    for model, run in first.items():
        verdict = cluster.verdict(model, run)
        assert verdict and verdict.outcome is Outcome.RELEASED, cluster.story(model, run)
    used = {task["hostname"] for model, run in first.items() for task in cluster.tasks(model, run)}
    assert used >= set(WORKERS), used
