"""Long: a host is killed in the middle of each step, and a backfill of ten nights. make test-hosts runs it."""

import pytest

from nightly.records.verdict import Outcome
from tests.hosts.cluster import WORKERS
from tests.hosts.invariants import violations
from tests.hosts.test_nights import hosts_of, released

pytestmark = pytest.mark.campaign

STEPS = (
    "plan",
    "download",
    "snapshot",
    "examples",
    "schema",
    "statistics",
    "example_validator",
    "drift_skew",
    "data_gate",
    "transform",
    "trainer",
    "evaluator",
    "model_gate",
    "infra_validator",
    "release",
    "verdict",
)


def test_a_backfill_of_ten_nights_releases_each(cluster):
    before = {run["dag_run_id"] for run in cluster.runs("fares")}
    cluster.backfill("fares_retrain", "2015-06-01", "2015-06-10", {"release": "yes"})
    runs = [run["dag_run_id"] for run in cluster.runs("fares") if run["dag_run_id"] not in before]
    assert len(runs) == 10
    for run in runs:
        cluster.wait_for("fares", run, 10 * 1500)
    outcomes = {run: (cluster.verdict("fares", run) or None) for run in runs}
    assert {verdict and verdict.outcome for verdict in outcomes.values()} == {Outcome.RELEASED}, outcomes
    assert set().union(*(hosts_of(cluster, "fares", run) for run in runs)) == set(WORKERS)
    assert violations(cluster) == []


@pytest.mark.parametrize("number, step", enumerate(STEPS))
def test_a_host_is_killed_in_the_middle_of_a_step(cluster, number, step):
    """Its disk is lost, too. Airflow finds it by its heartbeat, and the other host ends the night."""
    run = cluster.trigger("taxi", f"2015-07-{number + 1:02}")
    host = cluster.catch("taxi", run, step)
    with cluster.without(host, emptied=True):
        released(cluster, "taxi", run)
    tries = [attempt["hostname"] for attempt in cluster.tries("taxi", run, step)]
    assert tries[0] == host.name
    assert len(tries) > 1, "the kill came too late"
    assert tries[-1] == cluster.other(host.name).name
    assert violations(cluster) == []
