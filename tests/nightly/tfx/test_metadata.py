"""Where ML Metadata is, by the environment; and what is left to TFX to find in it."""

import json

import ml_metadata as mlmd
import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.portable import execution_publish_utils, outputs_utils
from tfx.orchestration.portable.mlmd import context_lib
from tfx.proto.orchestration import execution_result_pb2, pipeline_pb2

from nightly.compat.mlmd import divide_properties, register_execution
from nightly.io.paths import Paths
from nightly.records.base import ContractError
from nightly.tfx.metadata import Execution, NightlyMetadata, close_abandoned, connection_config, kept, resolve_inputs
from tests.support.nights import a_night


@pytest.mark.parametrize(
    ("text", "password"), [("p%40ss%2Fword", "p@ss/word"), ("a%20b", "'a b'"), ("it%27s%5C", r"'it\'s\\'"), ("", "")]
)
def test_a_postgresql_url_is_parsed_and_its_password_is_one_that_libpq_reads(text, password, monkeypatch):
    monkeypatch.setenv("NIGHTLY_METADATA_DB", f"postgresql://airflow:{text}@db/mlmd")
    config = connection_config(Paths.from_environment(), "taxi").postgresql
    assert (config.host, config.port, config.user, config.dbname) == ("db", "5432", "airflow", "mlmd")
    assert config.password == password


@pytest.mark.parametrize(
    "url",
    [
        "mysql://airflow:hidden@db/mlmd",
        "postgresql://airflow:hidden@db",
        "airflow:hidden",
        "postgresql://airflow:hidden/word@db/mlmd",
        "postgresql://airflow:hidden@db:port/mlmd",
        "postgresql://airflow:[hidden@db/mlmd",
    ],
)
def test_another_url_is_refused_without_telling_its_password(monkeypatch, url):
    monkeypatch.setenv("NIGHTLY_METADATA_DB", url)
    with pytest.raises(ContractError, match="is not of the form postgresql://user:password@host:port/name") as error:
        connection_config(Paths.from_environment(), "taxi")
    assert "hidden" not in str(error.value)


def test_without_a_url_each_model_has_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path))
    monkeypatch.delenv("NIGHTLY_METADATA_DB", raising=False)
    found = connection_config(Paths.from_environment(), "taxi")
    assert found.sqlite.filename_uri == str(tmp_path / "metadata/taxi.sqlite")


@pytest.mark.parametrize("text", ["", "a" * 2000, "a" * 2001, "é" * 9999, "🚕" * 1500])
def test_a_parameter_of_any_length_is_stored_in_parts_that_postgresql_can_index(text, monkeypatch, tmp_path):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path))
    kind = metadata_store_pb2.ExecutionType(name="Anything")
    with NightlyMetadata(Paths.from_environment(), "taxi") as handle:
        properties = {"columns": text, "steps": 5}
        execution = register_execution(handle, kind, [], exec_properties=properties)
        output = execution_result_pb2.ExecutorOutput()
        outputs_utils.populate_exec_properties(output, properties)
        divide_properties(output)
        execution_publish_utils.publish_succeeded_execution(handle, execution.id, [], executor_output=output)
        (stored,) = handle.store.get_executions_by_id([execution.id])
    assert stored.custom_properties["steps"].int_value == 5
    assert kept(stored, "columns") == text
    assert all(len(value.string_value.encode()) <= 2000 for value in stored.custom_properties.values())


def test_an_input_of_another_pipeline_is_left_to_tfx(monkeypatch, tmp_path):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path))
    node = pipeline_pb2.PipelineNode(upstream_nodes=["examples"])
    node.inputs.inputs["model"].channels.add().producer_node_query.id = "trainer"
    with NightlyMetadata(Paths.from_environment(), "taxi") as handle:
        before = node.SerializeToString(deterministic=True)
        resolve_inputs(handle, node, {"examples": pipeline_pb2.PipelineNode()})
    assert node.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("request_text", ["of a newer version", None], ids=["newer", "gone"])
def test_what_a_killed_night_left_is_closed_whatever_its_request_is_by_now(paths, request_text):
    folder, run_id = paths.night("taxi", "night/1"), "night/1"
    folder.mkdir(parents=True)
    if request_text:
        request = {**json.loads(a_night(run_id=run_id).model_dump_json()), "a_new_key": request_text}
        (folder / "request.json").write_text(json.dumps(request))
    (folder / "examples.running").touch()
    with NightlyMetadata(paths, "taxi") as handle:
        names = {"pipeline_run": run_id, "node": "taxi.examples"}
        contexts = [context_lib.register_context_if_not_exists(handle, *each) for each in names.items()]
        kind = mlmd.proto.ExecutionType(name="Anything")
        execution = execution_publish_utils.register_execution(handle, kind, contexts)
        close_abandoned(handle, "taxi", {}, paths)
        (closed,) = handle.store.get_executions_by_id([execution.id])
    assert closed.last_known_state == Execution.CANCELED
    assert not (folder / "examples.running").exists()
