"""The private parts of the libraries that the project uses are there, and are called as it calls them."""

import inspect

import pytest
from apache_beam.options import pipeline_options as beam_options
from apache_beam.portability import common_urns
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from pyiceberg.io import pyarrow as pyiceberg_reader
from pyiceberg.manifest import FileFormat
from tensorflow_transform import analyzers
from tensorflow_transform.beam import analyzer_impls
from tfx.orchestration import metadata
from tfx.orchestration.portable import launcher

from nightly.compat import beam, beam_hosts, iceberg, tft, tfx

SIGNATURES = {
    # TFX's launcher: RerunLauncher.launch calls these, and replaces the last.
    launcher.Launcher._prepare_execution: "self",
    launcher.Launcher._run_executor: "self execution_info",
    launcher.Launcher._publish_successful_execution: "self execution_id contexts output_dict executor_output",
    launcher.Launcher._publish_failed_execution: "self execution_id contexts executor_output",
    launcher.Launcher._clean_up_stateless_execution_info: "self execution_info",
    launcher.Launcher._clean_up_stateful_execution_info: "self execution_info",
    launcher.Launcher._register_or_reuse_execution: "self metadata_handle contexts input_artifacts exec_properties",
    metadata.Metadata.__init__: "self connection_config",
    analyzer_impls._split_inputs_by_key: "batch_values",
    analyzer_impls._merge_outputs_by_key: "keys_and_outputs outputs_dtype",
    analyzer_impls._join_boundary_rows: "boundary_matrix",
    analyzer_impls._flatten_to_key_and_means_accumulator_list: "batch_values compute_weighted",
    analyzer_impls._calculate_mutual_information_for_feature_value: "feature_and_accumulator global_accumulator "
    "use_adjusted_mutual_info min_diff_from_avg",
    analyzer_impls._count_and_token_to_bytes: "count token",
    pyiceberg_reader.ArrowScan._record_batches_from_scan_tasks_and_deletes: "self tasks deletes_per_file",
    pyiceberg_reader._read_all_delete_files: "io tasks",
    iceberg._get_file_format: "file_format kwargs",
    worker_handlers.ExternalWorkerHandler.__init__: "self external_payload state provision_info grpc_server",
    worker_handlers.ExternalWorkerHandler.host_from_worker: "self",
    worker_handlers.ControlConnection.push: "self req",
    beam_options._BeamArgumentParser.error: "self message",
    beam_options.PipelineOptions._add_argparse_args: "parser",
}


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_a_private_function_takes_what_it_is_given(function):
    assert " ".join(inspect.signature(function).parameters) == SIGNATURES[function]


def test_pyiceberg_asks_for_a_buffer_of_the_whole_file_which_is_left_out():
    assert '"pre_buffer": True' in inspect.getsource(pyiceberg_reader._task_to_record_batches)
    assert "_get_file_format(task.file.file_format" in inspect.getsource(pyiceberg_reader._task_to_record_batches)
    options = pyiceberg_reader._get_file_format(FileFormat.PARQUET, pre_buffer=True).default_fragment_scan_options
    assert not options.pre_buffer


def test_beams_runner_starts_the_thread_that_reads_a_workers_answers_when_the_worker_connects():
    connection = worker_handlers.ControlConnection()
    assert connection._futures_by_id == {} and not connection._read_thread.is_alive()
    assert "self._read_thread.start()" in inspect.getsource(connection.set_input)
    handler, _ = worker_handlers.WorkerHandler._registered_environments[common_urns.environments.EXTERNAL.urn]
    assert handler is beam_hosts.PoolWorkerHandler


def test_tfx_s_launcher_has_the_attributes_that_are_read():
    source = inspect.getsource(launcher.Launcher.__init__)
    assert "self._executor_operator" in source
    assert "self._pipeline_node = pipeline_node" in source
    fields = launcher._ExecutionPreparationResult.__dict__["__attrs_attrs__"]
    assert {"execution_info", "contexts", "is_execution_needed"} <= {field.name for field in fields}


def test_the_metadata_handle_connects_once_and_counts_its_users(tmp_path):
    handle = tfx.PersistentMetadata(metadata.sqlite_metadata_connection_config(str(tmp_path / "db.sqlite")))
    assert not handle.entered
    with handle:
        store = handle.store
        with handle:
            assert handle.entered
        assert handle.entered
    assert not handle.entered
    with pytest.raises(RuntimeError, match="not in enter state"):
        _ = handle.store
    with handle:
        assert handle.store is store


def test_tft_s_orderings_are_those_that_vocabularies_know():
    names = {"FREQUENCY", "WEIGHTED_FREQUENCY", "MUTUAL_INFORMATION", "WEIGHTED_MUTUAL_INFORMATION"}
    assert names <= vars(analyzers._VocabOrderingType).keys()
    assert tft.Ordering is analyzers._VocabOrderingType


def test_beam_s_parser_knows_the_options_of_every_runner():
    names = beam.OptionParser().option_names
    assert {"--runner", "--temp_location", "--flink_master", "--direct_num_workers"} <= set(names)
