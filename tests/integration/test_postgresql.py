"""Nights of two models at once, with Airflow's database and ML Metadata in PostgreSQL as docker-compose.yaml has it."""

import base64
import json
import os
import re
import secrets
import subprocess

import pytest

from local.airflow import LocalAirflow
from nightly.io.paths import ROOT, Paths
from nightly.records.night import GateResult
from nightly.records.reuse import Reuse
from nightly.records.verdict import Outcome
from tests.support.airflow_nights import Nights
from tests.support.faulty_server import FaultyServer
from tests.support.postgresql import COMPOSE, POSTGRES, running_database

NODES = {"examples", "statistics", "schema", "drift_skew", "data_gate", "transform", "trainer", "evaluator", "release"}
REFUSED = re.compile(r"deadlock detected|could not serialize|is locked|duplicate key|OperationalError|AlreadyExists")
TWICE = "SELECT name, type_kind FROM type GROUP BY name, type_kind HAVING count(*) > 1"
# run, node, output artifacts; by Execution.COMPLETE and Event.OUTPUT
COMPLETE = """
SELECT run.name, node.name, count(DISTINCT made.artifact_id) FROM execution
JOIN association AS in_run ON in_run.execution_id = execution.id
JOIN context AS run ON run.id = in_run.context_id
JOIN type AS of_run ON of_run.id = run.type_id AND of_run.name = 'pipeline_run'
JOIN association AS in_node ON in_node.execution_id = execution.id
JOIN context AS node ON node.id = in_node.context_id
JOIN type AS of_node ON of_node.id = node.type_id AND of_node.name = 'node'
LEFT JOIN event AS made ON made.execution_id = execution.id AND made.type = 4
WHERE execution.last_known_state = 3 GROUP BY run.name, node.name
"""
AT_ONCE = """
import multiprocessing, sys
from tfx.types import standard_artifacts
from nightly.io.paths import Paths
from nightly.tfx.metadata import NightlyMetadata

def register(model):
    barrier.wait()
    with NightlyMetadata(Paths.from_environment(), model) as handle:
        for kind in ("Examples", "Model", "Schema"):
            kind = getattr(standard_artifacts, kind)().artifact_type
            handle.store.put_artifact_type(kind, can_add_fields=True, can_omit_fields=True)

fork = multiprocessing.get_context("fork")
barrier = fork.Barrier(8)
processes = [fork.Process(target=register, args=(model,)) for model in ("taxi", "complaints") * 4]
for process in processes: process.start()
for process in processes: process.join()
sys.exit(max(process.exitcode for process in processes))
"""
SEALED = """
import sys
from pathlib import Path
from ml_metadata.proto import metadata_store_pb2
from tfx.types import standard_artifacts
from nightly.compat.mlmd import register_execution
from nightly.io.paths import Paths
from nightly.tfx import seals
from nightly.tfx.metadata import NightlyMetadata

examples = standard_artifacts.Examples()
examples.uri = sys.argv[1]
for split in ("train", "eval"):
    for shard in range(300):
        path = Path(examples.uri, f"Split-{split}", f"data_tfrecord-{shard:05}-of-00300.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{split} {shard}")
seals.seal([examples.mlmd_artifact], "examples", "a night")
with NightlyMetadata(Paths.from_environment(), "taxi") as handle:
    kind = handle.store.put_artifact_type(examples.artifact_type, can_add_fields=True, can_omit_fields=True)
    examples.mlmd_artifact.type_id = kind
    (number,) = handle.store.put_artifacts([examples.mlmd_artifact])
    (stored,) = handle.store.get_artifacts_by_id([number])
examples.set_mlmd_artifact(stored)
assert len(seals.seal_of(examples).files) == 600
seals.check({"examples": [examples]})
with NightlyMetadata(Paths.from_environment(), "taxi") as handle:
    columns = chr(10).join(f"a column of a wide table, number {number}" for number in range(999))
    kind = metadata_store_pb2.ExecutionType(name="Anything")
    register_execution(handle, kind, [], exec_properties={"columns": columns})
path.write_text("another")
try:
    seals.check({"examples": [examples]})
except seals.DamagedArtifactError as error:
    assert f"{path.name} has changed" in str(error), error
else:
    sys.exit("the changed file is not noticed")
"""
COMPLAINTS = """
import datetime, pathlib, sys
from benchmarks import complaints
complaints.write(pathlib.Path(sys.argv[1]), 3000, seed=1, last_day=datetime.date(2016, 2, 29), days=56)
"""

pytestmark = pytest.mark.skipif(POSTGRES is None, reason="there is no PostgreSQL server in /usr/lib/postgresql")


@pytest.fixture(scope="module")
def dotenv():
    """What a person fills into .env."""
    names = re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(), re.M)
    fernet = base64.urlsafe_b64encode(os.urandom(32)).decode()
    return {name: secrets.token_hex(24) for name in names} | {"AIRFLOW_FERNET_KEY": fernet}


@pytest.fixture(scope="module")
def database(dotenv):
    with running_database(dotenv["POSTGRES_PASSWORD"]) as running:
        yield running


@pytest.fixture(scope="module")
def on_postgresql(tmp_path_factory, trips, warm, dotenv, database):
    """An Airflow with compose's settings, after compose's service `init`; only hosts and folders are this machine's."""
    var = tmp_path_factory.mktemp("postgresql")

    def here(value):
        filled = re.sub(r"\$\{(\w+)[^}]*\}", lambda found: dotenv.get(found[1], ""), value)
        return filled.replace("@postgres:5432/", f"@{database.address}/").replace("/opt/airflow/var", str(var))

    compose = {name: here(value) for name, value in COMPOSE["services"]["scheduler"]["environment"].items()}
    elsewhere = ("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "AIRFLOW__API__BASE_URL")  # LocalAirflow's own
    compose = {name: value for name, value in compose.items() if name not in elsewhere and "SERVING" not in name}
    assert compose["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("postgresql")
    assert compose["NIGHTLY_METADATA_DB"].startswith("postgresql")

    complaints = var / "complaints.csv"
    ml_python = Paths.from_environment().ml_python
    subprocess.run([ml_python, "-c", COMPLAINTS, complaints], cwd=ROOT, check=True)
    complaints.write_text(complaints.read_text().replace("date_received", "Date received", 1))
    home = var / "airflow"
    with FaultyServer(complaints) as api:
        passwords = home / "simple_auth_manager_passwords.json.generated"  # where LocalAirflow reads it
        environment = {
            **compose,
            **warm,
            "NIGHTLY_VAR": str(var),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW_ADMIN_PASSWORD": dotenv["AIRFLOW_ADMIN_PASSWORD"],
            "AIRFLOW_CONN_TAXI_FILES": json.dumps({"conn_type": "fs", "extra": {"path": str(trips)}}),
            "AIRFLOW_CONN_COMPLAINTS_API": json.dumps({"conn_type": "http", "host": api.address}),
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        }
        airflow = LocalAirflow(home, environment)
        shell, option, script = COMPOSE["services"]["init"]["command"]
        path = f"{ROOT}/.venv/airflow/bin:{os.environ['PATH']}"
        init = [shell, option, script.replace("$$", "$")]
        done = subprocess.run(init, env=airflow.environment | {"PATH": path}, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        with airflow.running():
            assert airflow.password == dotenv["AIRFLOW_ADMIN_PASSWORD"]
            for dag in ("taxi_retrain", "complaints_retrain"):
                airflow.api("patch", f"dags/{dag}", json={"is_paused": False})
            yield Nights(airflow, var)


def start(nights, model, run_id, **conf):
    body = {"logical_date": None, "dag_run_id": run_id, "conf": {"release": "yes", **conf}}
    nights.airflow.api("post", f"dags/{model}_retrain/dagRuns", json=body)


def end(nights, model, run_id):
    nights.wait(f"{model}_retrain", run_id)
    verdict = nights.verdict(f"{model}_retrain", run_id)
    assert verdict.outcome is Outcome.RELEASED, verdict.summary
    return verdict


def test_processes_that_begin_an_empty_ml_metadata_at_once_register_each_type_once(database, tmp_path):
    database.run("postgres", "CREATE DATABASE empty")
    before = database.log.read_text()
    environment = {**os.environ, "NIGHTLY_METADATA_DB": database.url("empty"), "NIGHTLY_RUN": str(tmp_path)}
    command = [Paths.from_environment().ml_python, "-c", AT_ONCE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert database.run("empty", TWICE) == []
    assert database.run("empty", "SELECT count(*) FROM type WHERE name IN ('Examples', 'Model', 'Schema')") == [(3,)]
    assert "ERROR" not in database.log.read_text().removeprefix(before)


def test_an_artifact_of_hundreds_of_files_is_sealed_and_a_parameter_of_any_length_is_stored(database, tmp_path):
    """PostgreSQL indexes properties of a few kilobytes at most, and refuses longer ones."""
    database.run("postgres", "CREATE DATABASE sealed")
    environment = {**os.environ, "NIGHTLY_METADATA_DB": database.url("sealed"), "NIGHTLY_RUN": str(tmp_path)}
    command = [Paths.from_environment().ml_python, "-c", SEALED, str(tmp_path / "examples")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_two_models_at_once_release_and_the_next_night_takes_the_first_as_its_control(on_postgresql, database):
    nights = on_postgresql
    easy = {"thresholds": {"model_gate.metrics.auc.floor": 0.4}, "reason": "few steps"}
    start(nights, "taxi", "first", as_of="2015-05-01", train_steps=100)
    start(nights, "complaints", "first", as_of="2016-03-16", train_steps=20, **easy)  # the same run id
    released = {model: end(nights, model, "first") for model in ("taxi", "complaints")}
    start(nights, "taxi", "second", as_of="2015-05-02", train_steps=100)
    second = end(nights, "taxi", "second")

    assert nights.versions("taxi") == [released["taxi"].version, second.version]
    assert nights.versions("complaints") == [released["complaints"].version]
    folder = nights.folder("taxi_retrain", "second")
    drift = {r.control for r in GateResult.load(folder / "data_gate.json").reasons if r.check == "drift"}
    assert "last_accepted" in drift, "the second night is compared with the first"
    assert "auc against production" in {r.check for r in GateResult.load(folder / "model_gate.json").reasons}
    assert "since first" in Reuse.load(folder / Reuse.FILE.format("examples")).reason, "earlier work is looked up there"

    found = {(run, node): artifacts for run, node, artifacts in database.run("mlmd", COMPLETE)}
    for model, run in (("taxi", "first"), ("complaints", "first"), ("taxi", "second")):
        assert {node for node in NODES if (run, f"{model}.{node}") in found} == NODES, (model, run, found)
        assert found[run, f"{model}.trainer"] == 2  # model and model_run
    assert database.run("mlmd", TWICE) == []
    runs = database.run("airflow", "SELECT dag_id, run_id, state FROM dag_run")
    started = {("taxi_retrain", "first"), ("complaints_retrain", "first"), ("taxi_retrain", "second")}
    assert set(runs) == {(*night, "success") for night in started}
    assert database.run("airflow", "SELECT task_id FROM task_instance WHERE try_number > 1") == []

    assert "InitGoogleLogging" not in nights.log("taxi_retrain", "first", "trainer"), "no part of the night's story"
    assert not [path for path in nights.var.rglob("*") if path.suffix in (".sqlite", ".db")]
    logs = [database.log, *nights.var.rglob("*.log")]
    said = [f"{log.name}: {line}" for log in logs for line in log.read_text(errors="replace").splitlines()]
    assert not [line for line in said if REFUSED.search(line)]
