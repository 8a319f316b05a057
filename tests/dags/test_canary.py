"""The DAG `canary`: its form and its runs, through Airflow's task runner and the real steps in the ML environment."""

import datetime as dt
from pathlib import Path

import pytest

from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.config import CanaryConfig
from nightly.records.golden import GOLDEN, Golden
from nightly.release.comparisons import comparisons
from nightly.release.store import ReleaseStore
from tests.support.releases import NOW, ApprovingServer, origin

pytestmark = pytest.mark.slow

DAYS = iter(dt.datetime(2026, 2, day, tzinfo=dt.UTC) for day in range(1, 28))


def released(store: ReleaseStore, export: Path, number: int, share: float | None = None) -> None:
    (export / "saved_model.pb").parent.mkdir(exist_ok=True)
    (export / "saved_model.pb").write_text(f"model {number}")
    Golden(model="taxi", examples=[]).save(export / GOLDEN)
    store.release(export, origin(f"run-{number}"), now=NOW + number, server=ApprovingServer(), canary_share=share)


@pytest.fixture
def store(database, paths, tmp_path) -> ReleaseStore:
    """Taxi has a version in production and a canary, and no model server is configured."""
    store = ReleaseStore(paths.serving, paths.releases, "taxi")
    released(store, tmp_path / "export", 0)
    released(store, tmp_path / "export", 1, share=0.1)
    return store


@pytest.fixture
def dag(database, monkeypatch):
    """As it is when taxi's config has [release.canary], and that of complaints has not."""

    def with_canary(name: str):
        config = load_config(name)
        release = config.release.model_copy(update={"canary": CanaryConfig() if name == "taxi" else None})
        return config.model_copy(update={"release": release})

    import nightly_airflow.canary

    monkeypatch.setattr(nightly_airflow.canary, "load_config", with_canary)
    dag = nightly_airflow.canary.canary_dag("0 12 * * *")
    for task in dag.tasks:
        task.retries = 0
    return dag


def run(dag, **conf) -> tuple[str, dict[str, str], str]:
    """The run's state, its tasks' states, and its note."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    from nightly_airflow.note import write_note

    done = dag.test(run_conf=conf, logical_date=next(DAYS))
    states = {instance.task_id: str(instance.state) for instance in done.get_task_instances()}
    with create_session() as session:
        found = session.get(DagRun, done.id)
        write_note(found)
        return str(done.state), states, found.note or ""


def test_it_reads_compare_then_decide_for_each_model_that_has_canaries(dag):
    assert {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks} == {
        "taxi.compare": ["taxi.decide"],
        "taxi.decide": [],
    }
    assert dag.schedule is not None and dag.catchup is False
    assert all(task.doc_md and task.execution_timeout for task in dag.tasks)


def test_where_no_model_has_canaries_it_is_there_and_idle(database):

    from nightly_airflow.canary import canary_dag

    dag = canary_dag("0 12 * * *")
    assert [task.task_id for task in dag.tasks] == ["nothing_to_compare"] and dag.schedule is None


def test_a_look_waits_until_a_person_stops_it_with_a_reason_and_then_there_is_nothing_to_do(dag, store):
    state, states, note = run(dag)
    assert (state, states) == ("success", {"taxi.compare": "success", "taxi.decide": "success"})
    assert note.startswith(f"**… WAITING: canary taxi {NOW + 1}: 0 predictions of the canary have a label")
    [kept] = comparisons(Paths.from_environment(), "taxi")
    assert (kept.decision, len(kept.looks), kept.share) == ("", 1, 0.1)
    assert store.disk.canary() is not None

    state, _, note = run(dag, model="taxi", decision="stop", reason="complaints came")
    assert state == "success" and "! STOPPED" in note and "complaints came" in note
    record = store.disk.record(NOW + 1)
    assert record.state == "quarantined" and "complaints came" in record.why
    assert store.disk.production() == NOW

    assert run(dag)[:2] == ("success", {"taxi.compare": "skipped", "taxi.decide": "skipped"})


def test_a_decision_without_model_or_reason_changes_nothing(dag, store):
    assert run(dag, decision="stop", reason="which one?")[0] == "failed"
    assert run(dag, model="taxi", decision="promote")[0] == "failed"
    assert store.disk.canary() is not None


def test_a_key_that_the_form_does_not_have_changes_nothing(dag, store, tmp_path):
    assert run(dag, model="taxi", decison="stop", reason="complaints came")[0] == "failed"
    assert store.disk.canary() is not None
    [error] = (tmp_path / "var/nights/taxi").glob("*/taxi.compare.error.json")
    assert "decison: there is no such key; did you mean 'decision'?" in error.read_text()


def test_a_promotion_that_nobody_would_serve_fails_and_says_why(dag, store, tmp_path):
    state, states, _ = run(dag, model="taxi", decision="promote", reason="it is as good")
    assert (state, states["taxi.decide"]) == ("failed", "failed")
    [error] = (tmp_path / "var/nights/taxi").glob("*/taxi.decide.error.json")
    assert "NIGHTLY_SERVING_REST" in error.read_text() and store.disk.canary() is not None


@pytest.mark.parametrize("bad", [{"model": "taxy"}, {"decision": "maybe"}, {"reason": 5}])
def test_the_form_refuses_what_makes_no_sense(dag, bad):
    [(name, value)] = bad.items()
    with pytest.raises(Exception, match="Failed validating"):
        dag.params.get_param(name).resolve(value)
