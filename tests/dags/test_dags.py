"""The DAG files: they load without TensorFlow, and every task has what a person on call needs."""

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import CronDataIntervalTimetable
from airflow.utils.file import might_contain_dag

from nightly.io.paths import python_path
from nightly.io.polling import poll
from nightly.models import model_names
from nightly.records.tasks import OPTIONAL, TASKS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "dags").glob("*.py"))
MEASURE = """
import json, sys, airflow.dag_processing.dagbag
bag = airflow.dag_processing.dagbag.DagBag({file!r}, safe_mode=True)
heavy = [name for name in ("tensorflow", "tfx", "pyarrow", "apache_beam", "numpy") if name in sys.modules]
print(json.dumps(dict(heavy=heavy, dags=list(bag.dags), errors=list(bag.import_errors.values()))))
"""


@pytest.fixture(scope="module")
def dags():
    bag = DagBag(str(ROOT / "dags"))
    assert bag.import_errors == {}
    return bag.dags


def parse(file: Path, **environment: str) -> dict[str, Any]:
    """What a new process finds when it parses `file`."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(file=str(file))],
        env={**os.environ, **environment},
        cwd=file.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])  # Airflow logs on standard output too


def test_every_model_has_its_dag(dags):
    assert set(dags) == {"canary", "rollback", *(f"{model}_retrain" for model in model_names())}


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_dag_file_is_found_and_parses_without_a_heavy_import(file):
    assert might_contain_dag(str(file), safe_mode=True)
    found = parse(file)
    assert (found["dags"], found["errors"], found["heavy"]) == ([file.stem], [], [])


@pytest.mark.parametrize("model", model_names())
def test_every_task_is_owned_documented_and_limited(dags, model):
    dag = dags[f"{model}_retrain"]
    assert dag.doc_md and dag.description and {"nightly", model} <= dag.tags
    for task in dag.tasks:
        assert task.owner and task.doc_md and task.execution_timeout, task.task_id
        assert task.retries == 0 or task.retry_exponential_backoff, task.task_id
    assert dag.get_task("download").retries == 3
    assert dag.get_task("release").max_active_tis_per_dag == 1


@pytest.mark.parametrize("model", model_names())
def test_the_schedule_has_a_true_data_interval_and_catches_nothing_up(dags, model):
    dag = dags[f"{model}_retrain"]
    assert isinstance(dag.timetable, CronDataIntervalTimetable)
    assert dag.catchup is False and dag.max_active_runs == 1
    assert dag.start_date <= dt.datetime(2012, 1, 1, tzinfo=dt.UTC)  # backfills reach the whole history


def test_the_order_of_a_night(dags):
    dag = dags["taxi_retrain"]
    edges = {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}
    assert edges == {
        "plan": ["download"],
        "download": ["snapshot"],
        "snapshot": ["examples", "schema"],
        "examples": ["statistics"],
        "schema": ["drift_skew", "example_validator"],
        "statistics": ["drift_skew", "example_validator"],
        "example_validator": ["data_gate"],
        "drift_skew": ["data_gate"],
        "data_gate": ["schema_review", "transform"],
        "schema_review": ["data_gate_again", "transform"],
        "data_gate_again": ["transform"],
        "transform": ["trainer"],
        "trainer": ["evaluator", "infra_validator"],
        "evaluator": ["model_gate"],
        "model_gate": ["release"],
        "infra_validator": ["release"],
        "release": ["verdict"],
        "verdict": [],
    }


def test_the_scheduler_knows_which_tasks_can_close_the_way(dags):
    """Only so does clearing a task behind a closed gate not get around the gate."""
    from airflow.serialization.serialized_objects import DagSerialization

    stored = DagSerialization.from_dict(DagSerialization.to_dict(dags["taxi_retrain"]))
    closing = {task.task_id for task in stored.tasks if task.inherits_from_skipmixin}
    assert closing == {"snapshot", "data_gate", "schema_review", "data_gate_again", "model_gate"}
    assert stored.get_task("verdict").trigger_rule == "all_done"


def test_the_form_refuses_what_makes_no_sense(dags):
    params = dags["taxi_retrain"].params
    assert params["release"] == "auto" and params["as_of"] is None
    for name, bad in {"release": "maybe", "train_steps": 0, "look_back_days": "ten", "thresholds": [1]}.items():
        with pytest.raises(Exception, match=r"Invalid input|is not|minimum"):
            params.get_param(name).resolve(bad)
    for name in params:
        assert params.get_param(name).description and params.get_param(name).schema["section"], name


@pytest.fixture
def project(tmp_path):
    """A copy of the project's Airflow side, to add a model to."""
    for folder in ("dags", "plugins", "include"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def parse_in(project: Path, dag: str) -> dict[str, Any]:
    return parse(
        project / f"dags/{dag}.py",
        PYTHONPATH=python_path(project),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(project / "plugins"),
        AIRFLOW__CORE__DAGS_FOLDER=str(project / "dags"),
    )


@pytest.mark.slow
def test_a_third_model_is_a_folder_and_a_file_of_three_lines(project):
    shutil.copytree(project / "include/models/taxi", project / "include/models/cabs")
    text = (project / "dags/taxi_retrain.py").read_text()
    assert len([line for line in text.splitlines() if line.strip()]) == 3
    (project / "dags/cabs_retrain.py").write_text(text.replace("taxi", "cabs"))

    found = parse_in(project, "cabs_retrain")
    assert (found["dags"], found["errors"]) == (["cabs_retrain"], [])


@pytest.mark.slow
def test_a_model_that_trains_again_on_all_rows_has_a_task_for_it(project):
    config = project / "include/models/taxi/config.toml"
    text = config.read_text().replace("eval_percent = 20", 'eval_percent = 20\neval = "newest"')
    config.write_text(text.replace("[training]\n", "[training]\nrefit = true\n"))
    found = parse_in(project, "taxi_retrain")
    assert (found["dags"], found["errors"]) == (["taxi_retrain"], [])


@pytest.mark.slow
def test_an_invalid_config_is_an_import_error_that_names_the_key_and_the_nearest_valid_one(project):
    config = project / "include/models/taxi/config.toml"
    config.write_text(config.read_text().replace("min_rows =", "min_row =", 1))

    found = parse_in(project, "taxi_retrain")
    [error] = found["errors"]
    assert "data_gate.min_row: there is no such key; did you mean 'min_rows'?" in error and "config.toml" in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ('cron = "0 3', 'cron = "0 25'),
            "schedule.cron: '0 25 * * *' is not a cron expression that matches a date",
        ),
        (
            ('cron = "0 3 * *', 'cron = "0 3 30 2'),
            "schedule.cron: '0 3 30 2 *' is not a cron expression that matches a date",
        ),
        (
            ("America/Chicago", "America/Chicaco"),
            "there is no time zone 'America/Chicaco'; did you mean 'America/Chicago'?",
        ),
        (('slices = ["', 'slices = ["x'), "has no feature 'xpayment_type'; did you mean 'payment_type'?"),
    ],
)
def test_a_broken_config_is_one_sentence_at_its_own_dag_and_leaves_the_others(project, change, sentence):
    config = project / "include/models/taxi/config.toml"
    config.write_text(config.read_text().replace(*change, 1))

    found = parse_in(project, "taxi_retrain")
    [error] = found["errors"]
    assert sentence in error.splitlines()[-1] and found["dags"] == []
    for others in ("complaints_retrain", "canary", "rollback"):
        found = parse_in(project, others)
        assert (found["dags"], found["errors"]) == ([others], [])


@pytest.mark.slow
def test_a_model_without_a_schema_is_an_import_error_that_says_how_to_make_one(project):
    (project / "include/models/taxi/schema.pbtxt").unlink()
    [error] = parse_in(project, "taxi_retrain")["errors"]
    assert "schema.pbtxt is missing" in error and "`bin/data schema infer DATA --model taxi --out" in error


def test_only_the_plugin_file_is_loaded_as_a_plugin():
    from airflow import plugins_manager

    plugins, errors = plugins_manager._get_plugins()
    ours = [plugin for plugin in plugins if "nightly" in str(getattr(plugin, "source", ""))]
    assert not errors and [plugin.name for plugin in ours] == ["nightly"]


def test_the_documentation_names_every_task(dags):
    from nightly_airflow.docs import TASK_DOCS

    assert list(TASK_DOCS) == list(TASKS), "as they run"
    assert set(TASK_DOCS) - set(OPTIONAL) == set(dags["taxi_retrain"].task_ids)
    assert json.dumps(TASK_DOCS).count("**If it ") == len(TASK_DOCS)


def test_the_pool_of_the_ml_steps_is_made_when_airflow_starts_and_keeps_the_size_a_person_gave_it(database, dags):
    from airflow.jobs.job import Job
    from airflow.models.pool import Pool

    Job()  # what every component makes first when it starts
    assert Pool.get_pool("ml").slots == 2
    Pool.create_or_update_pool("ml", 5, "more cores", include_deferred=False)
    Job()
    assert Pool.get_pool("ml").slots == 5
    assert {task.pool for task in dags["taxi_retrain"].tasks} <= {"ml", Pool.DEFAULT_POOL_NAME}


def test_a_pool_that_a_person_has_deleted_is_there_again_when_the_next_night_begins(database, monkeypatch):
    from airflow.jobs.job import Job
    from airflow.models.dagrun import DagRun
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from airflow.utils.sqlalchemy import prohibit_commit

    from nightly_plugin import NightlyListener

    monkeypatch.setattr("nightly_airflow.missing_verdicts.start_if_missing", lambda session: None)
    monkeypatch.setenv("NIGHTLY_POOL", "")  # so that what follows is undone
    Job()
    Pool.delete_pool("ml")
    with create_session() as session, prohibit_commit(session):  # as the scheduler starts runs
        run = DagRun(dag_id="taxi_retrain", run_id="after-the-pool-was-deleted", run_type="manual", state="running")
        session.add(run)
        NightlyListener().on_dag_run_running(run, "")
        session.rollback()
    assert poll(lambda: Pool.get_pool("ml"), every=0.2, seconds=30).slots == 2


def test_a_pool_is_created_again_also_if_the_database_is_locked_for_a_moment(database, monkeypatch, caplog):
    from sqlalchemy.exc import OperationalError

    from nightly_airflow import pool

    answers = [OperationalError("INSERT", {}, Exception("database is locked")), None]
    calls = []

    def ensure():
        calls.append(1)
        if error := answers.pop(0):
            raise error

    monkeypatch.setattr(pool, "ensure_pool", ensure)
    monkeypatch.setattr(pool, "poll", lambda condition, **_: condition() or condition())
    pool._create_again()
    assert len(calls) == 2 and "could not be created" not in caplog.text


def test_a_dag_names_the_pool_only_where_a_component_has_seen_it(database, monkeypatch):
    from airflow.jobs.job import Job

    from nightly_airflow.retrain import retrain_dag

    monkeypatch.delenv("NIGHTLY_POOL", raising=False)
    dag = retrain_dag("taxi")
    assert {task.pool for task in dag.tasks} == {"default_pool"} and "Airflow's default pool, because" in dag.doc_md
    monkeypatch.setenv("NIGHTLY_POOL", "")  # so that what follows is undone
    Job()
    dag = retrain_dag("taxi")
    assert {task.pool for task in dag.tasks} == {"default_pool", "ml"} and "**Pool of the steps**: `ml`" in dag.doc_md
