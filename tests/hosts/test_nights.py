"""Whole nights of two models over two hosts that share no disk."""

import pytest

from nightly.records.verdict import Outcome
from tests.hosts.cluster import WORKERS
from tests.hosts.invariants import violations
from tests.hosts.project import MODELS


@pytest.fixture(scope="module")
def first(cluster):
    """The first night of each model, both at once."""
    runs = {model: cluster.trigger(model, "2015-05-01") for model in MODELS}
    for model, run in runs.items():
        cluster.wait_for(model, run)
    return runs


def released(cluster, model, run):
    """Wait for a night and return its verdict, which is RELEASED."""
    cluster.wait_for(model, run)
    verdict = cluster.verdict(model, run)
    assert verdict and verdict.outcome is Outcome.RELEASED, cluster.story(model, run)
    return verdict


def hosts_of(cluster, model, run):
    return {task["hostname"] for task in cluster.tasks(model, run) if task["hostname"]}


def test_a_host_sees_no_file_of_another(cluster):
    for name, host in cluster.hosts.items():
        done = host.run("bash", "-c", f"hostname; echo {name} > {cluster.var}/own; echo {name} > /tmp/own")
        assert done.stdout.split() == [name], done.stderr
        assert host.run("ls", cluster.folder).stdout.split() == ["project", "var"], "of the machine's files only these"
        assert host.run("touch", "/usr/lib/own").returncode, "no other folder is writable"
        assert host.run("touch", cluster.project / "own").returncode
    for name, host in cluster.hosts.items():
        assert host.run("cat", cluster.var / "own", "/tmp/own").stdout.split() == [name, name]
        host.run("rm", cluster.var / "own", "/tmp/own")
    assert not (cluster.var / "own").exists()


def test_the_first_night_of_each_model_releases_over_both_hosts(cluster, first):
    for model, run in first.items():
        released(cluster, model, run)
    assert set().union(*(hosts_of(cluster, model, run) for model, run in first.items())) == set(WORKERS)


def test_a_host_with_an_empty_disk_reuses_what_another_has_computed(cluster, first):
    one, other = cluster.hosts.values()
    with cluster.without(other, emptied=True):
        run = cluster.trigger("taxi", "2015-05-02")
        released(cluster, "taxi", run)
        assert hosts_of(cluster, "taxi", run) == {one.name}
    with cluster.without(one):
        again = cluster.trigger("taxi", "2015-05-02")
        assert cluster.wait_for("taxi", again) == "success", cluster.story("taxi", again)
        assert hosts_of(cluster, "taxi", again) == {other.name}
    verdict = cluster.verdict("taxi", again)
    assert verdict and {"examples", "statistics", "transform", "trainer"} <= set(verdict.reused), verdict
    assert set(verdict.reused.values()) == {run}


def test_nothing_of_a_night_is_only_on_a_disk(cluster, first, tmp_path):
    for host in cluster.hosts.values():
        host.kill()
        host.empty()
    for model, run in first.items():
        file = tmp_path / f"{model}.html"
        done = cluster.command("bin/report", model, run, "--out", str(file))
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"of {model} is released" in file.read_text()
        name = cluster.paths.night(model, run).name
        page = cluster.page(f"/nightly/{model}/nights/{name}")
        assert page.ok and f"of {model} is released" in page.text
        assert "<h2>The label</h2>" in page.text, "the page draws what the gates wrote"
    cluster.bring_up()
    released(cluster, "fares", cluster.trigger("fares", "2015-05-02"))


def test_everything_agrees_afterwards(cluster, first):
    cluster.wait_until(lambda: not violations(cluster), 120, "everything agrees")
    assert violations(cluster) == []
