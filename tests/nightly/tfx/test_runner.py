"""One node of the pipeline at a time, with ML Metadata as the record; and the same pipeline under TFX's own runner."""

import concurrent.futures
import json
import multiprocessing
import os
import signal
import subprocess
import unittest.mock

import ml_metadata as mlmd
import pytest
from tfx import v1 as tfx
from tfx.components.example_validator import executor
from tfx.orchestration import metadata as tfx_metadata

from nightly.cli import night as nights
from nightly.io.paths import ROOT, python_path
from nightly.models import load_config
from nightly.nights.steps import nodes_of
from nightly.records.night import GateResult, Night, SnapshotRef
from nightly.records.release import ReleaseRecord
from nightly.records.thresholds import ThresholdsUsed
from nightly.release.store import ReleaseStore
from nightly.tfx.metadata import NightlyMetadata, connection_config, node_lock
from nightly.tfx.pipeline import create_pipeline, read_inputs
from nightly.tfx.runner import run_node

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def paths(module_places):
    return module_places


@pytest.fixture(scope="module")
def folder(paths):
    """A night of real taxi trips, run without Airflow up to its data gate."""
    assert nights.main(["taxi", "--as-of", "2015-05-01", "--until", "data_gate"]) == 0
    (folder,) = (paths.nights / "taxi").iterdir()
    return folder


def test_a_night_runs_node_by_node_and_leaves_a_record_for_each_step(folder, paths):
    gate = GateResult.load(folder / "data_gate.json")
    assert gate.passed, [reason.message for reason in gate.held_for]
    assert {reason.check for reason in gate.reasons} >= {"min_rows", "max_age_days", "min_label_share", "drift", "skew"}
    assert len(list((paths.baselines / "taxi").glob("*/baseline.json"))) == 1
    (serving,) = (reason for reason in gate.reasons if reason.control == "serving")
    assert "not measured: no requests to taxi from 2015-01-31 to 2015-05-01 are logged" in serving.message
    used = ThresholdsUsed.load(folder / "thresholds.json")
    assert used.values["data_gate.min_rows"] == 600 and used.values["skew.fare"] == 0.3


def test_a_node_that_runs_again_leaves_one_output_for_its_consumers(folder, paths):
    for _ in range(3):
        run_node("statistics", folder, paths)
    with NightlyMetadata(paths, "taxi") as handle:
        found = [a for a in handle.store.get_artifacts_by_type("ExampleStatistics") if "/taxi/statistics/" in a.uri]
        live = [a for a in found if a.state == a.LIVE]
    assert len(live) == 1
    assert run_node("example_validator", folder, paths)


def test_a_gate_that_judges_again_finds_the_same_and_leaves_one_baseline(folder, paths):
    first, second = (run_node("data_gate", folder, paths) for _ in range(2))
    assert first["reasons"] == second["reasons"] and first["passed"] == second["passed"]
    assert len(list((paths.baselines / "taxi").glob("[0-9]*/baseline.json"))) == 1


def test_nights_that_run_at_once_do_not_meet_in_the_metadata(folder, paths):
    """Eight processes, which SQLite's ML Metadata by itself answers with "database is locked"."""
    folders = []
    for number in range(12):  # fewer than retention.runs, so that the first keeps its artifacts
        night = Night.load(folder / "request.json").model_copy(update={"run_id": f"at-once-{number}"})
        folders.append(night.save(night.folder(paths) / "request.json").parent)
        SnapshotRef.load(folder / "snapshot.json").save(folders[-1] / "snapshot.json")
    with concurrent.futures.ProcessPoolExecutor(8, mp_context=multiprocessing.get_context("fork")) as pool:
        found = [pool.submit(run_node, "schema", each, paths) for each in folders]
        assert all(future.result() for future in found)


def test_a_node_does_not_read_what_other_nights_have_done(folder, paths, monkeypatch):
    read = set()
    whole = mlmd.MetadataStore.get_executions_by_context

    def watched(store: mlmd.MetadataStore, context: int, **how: object) -> list[mlmd.proto.Execution]:
        read.update(found.name for found in store.get_contexts_by_id([context]))
        return whole(store, context, **how)

    monkeypatch.setattr(mlmd.MetadataStore, "get_executions_by_context", watched)
    monkeypatch.delattr(mlmd.MetadataStore, "get_executions")
    assert run_node("data_gate", folder, paths)
    assert read == {folder.name}


def test_a_node_that_fails_leaves_its_failure_and_no_outputs(folder, paths, monkeypatch):
    night = Night.load(folder / "request.json").model_copy(update={"run_id": "fails", "fresh": True})
    night.save(night.folder(paths) / "request.json")
    SnapshotRef.load(folder / "snapshot.json").save(night.folder(paths) / "snapshot.json")
    for node in ("examples", "statistics", "schema"):
        run_node(node, night.folder(paths), paths)
    with monkeypatch.context() as patch:
        patch.setattr(executor.Executor, "Do", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_node("example_validator", night.folder(paths), paths)
    with NightlyMetadata(paths, "taxi") as handle:
        run = handle.store.get_context_by_type_and_name("pipeline_run", "fails")
        executions = handle.store.get_executions_by_context(run.id)
    (failed,) = (e for e in executions if e.last_known_state == e.FAILED)
    assert failed.type.endswith("ExampleValidator")
    assert not (paths.pipeline / "taxi/example_validator/anomalies" / str(failed.id)).exists()


def test_what_a_killed_night_left_in_the_metadata_is_closed_by_the_next_one(folder, paths):
    killed, alive = new_night(folder, paths, "killed"), new_night(folder, paths, "alive")
    for each in (killed, alive):
        begin(each, paths)
    with node_lock(alive, "examples"):
        run_node("schema", new_night(folder, paths, "next"), paths)
    with NightlyMetadata(paths, "taxi") as handle:
        left = {name: run_states(handle, name) for name in ("killed", "alive")}
        run = handle.store.get_context_by_type_and_name("pipeline_run", "alive")
        (running,) = (execution.id for execution in handle.store.get_executions_by_context(run.id))
    assert left == {"killed": [mlmd.proto.Execution.CANCELED], "alive": [mlmd.proto.Execution.RUNNING]}
    system = paths.pipeline / "taxi/examples/.system"
    folders = {kind: os.listdir(system / kind) for kind in ("executor_execution", "stateful_working_dir")}
    assert folders == {kind: [str(running)] for kind in folders}, "TFX's folders of all but the living one are gone"


def new_night(folder, paths, run_id):
    night = Night.load(folder / "request.json").model_copy(update={"run_id": run_id, "fresh": True})
    new = night.save(night.folder(paths) / "request.json").parent
    SnapshotRef.load(folder / "snapshot.json").save(new / "snapshot.json")
    return new


def begin(folder, paths):
    """Run a node in a process that dies in the middle of it."""
    child = os.fork()
    if not child:
        executor = "nightly.tfx.runner.NightlyLauncher._run_executor"
        with unittest.mock.patch(executor, lambda *_: os.kill(os.getpid(), signal.SIGKILL)):
            run_node("examples", folder, paths)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def run_states(handle, run_id):
    run = handle.store.get_context_by_type_and_name("pipeline_run", run_id)
    return [execution.last_known_state for execution in handle.store.get_executions_by_context(run.id)]


def test_a_node_opens_no_port(folder, paths, monkeypatch):
    monkeypatch.delattr("portpicker.pick_unused_port")
    monkeypatch.delattr("grpc.server")
    assert run_node("data_gate", folder, paths)


def test_an_unknown_node_is_refused_with_the_nearest(folder, paths):
    with pytest.raises(ValueError, match="did you mean 'drift_skew'"):
        run_node("drift_skw", folder, paths)


def test_a_node_whose_inputs_were_not_made_in_this_run_says_so(folder, paths):
    with pytest.raises(RuntimeError, match=r"evaluator found no inputs in this run: run .*trainer"):
        run_node("evaluator", folder, paths)


def test_a_threshold_of_the_run_goes_before_the_schemas(folder, paths):
    night = Night.load(folder / "request.json")
    strict = night.model_copy(update={"overrides": {"skew.payment_type": 0.0}, "override_reason": "to see it hold"})
    strict.save(folder / "request.json")
    try:
        run_node("drift_skew", folder, paths)
        run_node("data_gate", folder, paths)
        (reason,) = GateResult.load(folder / "data_gate.json").held_for
        assert (reason.check, reason.subject, reason.threshold) == ("skew", "payment_type", 0.0)
        assert not list((paths.baselines / "taxi").glob("*/baseline.json")), "what was accepted before is withdrawn"
    finally:
        night.save(folder / "request.json")
        run_node("drift_skew", folder, paths)
        run_node("data_gate", folder, paths)


def test_the_same_pipeline_runs_under_tfxs_local_runner_and_releases(folder, paths):
    night = Night.load(folder / "request.json").model_copy(update={"run_id": "local", "release": True})
    night.save(night.folder(paths) / "request.json")
    SnapshotRef.load(folder / "snapshot.json").save(night.folder(paths) / "snapshot.json")
    pipeline = create_pipeline(read_inputs(night, paths))
    nodes = nodes_of(load_config("taxi"))
    assert {node.id for node in pipeline.components} == set(nodes)
    order = [(before.id, node.id) for node in pipeline.components for before in node.upstream_nodes]
    assert all(nodes.index(before) < nodes.index(after) for before, after in order)
    tfx.orchestration.LocalDagRunner().run(pipeline)
    record = ReleaseRecord.load(night.folder(paths) / "release.json")
    assert record.metrics["auc"] > load_config("taxi").model_gate.metrics["auc"].floor
    ReleaseStore(paths.serving, paths.releases, "taxi").disk.verify(record.version)
    with tfx_metadata.Metadata(connection_config(paths, "taxi")) as handle:
        (pushed,) = handle.store.get_artifacts_by_type("PushedModel")
    assert pushed.custom_properties["pushed_version"].int_value == record.version


def test_a_third_model_is_a_folder_and_a_file_of_three_lines(tmp_path):
    """In a copy of the project: the folder copied from taxi, found by the pipeline and by Airflow's DAG bag."""
    project = tmp_path / "project"
    project.mkdir()
    subprocess.run(
        [
            "cp",
            "-r",
            *(ROOT / name for name in ("dags", "plugins", "include", "client", "bin", "airflow.env")),
            project,
        ],
        check=True,
    )
    (project / ".venv").symlink_to(ROOT / ".venv")
    model = project / "include/models/tips"
    subprocess.run(["cp", "-r", project / "include/models/taxi", model], check=True)
    (project / "dags/tips_retrain.py").write_text(
        '"""The nightly retrain of tips, in Airflow."""\n'
        "from nightly_airflow.retrain import retrain_dag\n"
        'dag = retrain_dag("tips")\n'
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "NIGHTLY_VAR": str(tmp_path / "var")}
    environment["PYTHONPATH"] = python_path(project)  # the environment is this project's, the code is the copy's
    done = subprocess.run(
        [project / "bin/night", "tips", "--as-of", "2015-05-01", "--until", "trainer", "--train-steps", "5"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert list((tmp_path / "var/pipeline/tips/trainer/model").glob("*/Format-Serving/saved_model.pb"))
    listed = subprocess.run(
        [
            *(ROOT / ".venv/airflow/bin/python", "-P", "-c"),  # not what lies in the folder that the tests run in
            "import json; from airflow.dag_processing.dagbag import DagBag; import sys;"
            "bag = DagBag(sys.argv[1]); print(json.dumps([sorted(bag.dags), bag.import_errors]))",
            project / "dags",
        ],
        env={
            **environment,
            "AIRFLOW_HOME": str(tmp_path / "airflow"),
            "PYTHONPATH": python_path(project),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        },
        capture_output=True,
        text=True,
    )
    found, errors = json.loads(listed.stdout.splitlines()[-1])
    assert "tips_retrain" in found
    assert not errors


def test_the_command_without_airflow_says_what_is_wrong_with_a_request(capsys):
    assert nights.main(["taxy"]) == 2
    assert "did you mean 'taxi'" in capsys.readouterr().err


def test_a_step_of_ones_own_is_named_by_its_import_path(tmp_path, paths):
    from nightly.runtime.worker import step_function

    assert step_function("tests.support.steps:speak")(tmp_path, paths)["night"] == tmp_path.name
