"""The private parts of the libraries that the project uses are there, and are called as it calls them."""

import inspect

import pytest
from apache_beam.options import pipeline_options as beam_options
from apache_beam.portability import common_urns
from apache_beam.runners.dataflow.internal import apiclient
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from pyiceberg.io import pyarrow as pyiceberg_reader
from pyiceberg.manifest import FileFormat
from tensorflow_data_validation import StatsOptions
from tensorflow_transform import analyzers, annotators, graph_tools, impl_helper, tf_utils
from tensorflow_transform.beam import analysis_graph_builder, analyzer_impls
from tensorflow_transform.graph_context import TFGraphContext
from tensorflow_transform.saved import saved_transform_io_v2
from tfx.orchestration import data_types_utils, metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import (
    execution_publish_utils,
    inputs_utils,
    launcher,
    outputs_utils,
    runtime_parameter_utils,
)
from tfx.orchestration.portable.mlmd import context_lib, event_lib, execution_lib
from tfx_bsl.arrow import array_util
from tfx_bsl.tfxio import record_based_tfxio

from nightly.compat import beam, beam_hosts, iceberg, tfdv, tfma, tft, tfx

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
    apiclient.Environment.__init__: "self packages options environment_version proto_pipeline_staged_url "
    "proto_pipeline pipeline_proto_hash",
    tfdv.get_generators: "options in_memory",
    tfdv.extract_statistics_output: "partial_stats stats_generators",
    tfdv.enumerate_arrays: "record_batch example_weight_map enumerate_leaves_only wrap_flat_struct_in_list "
    "column_select_fn",
    tfdv.get_bytes_features: "schema",
    tfdv.get_feature_type_from_arrow_type: "feature_path arrow_type",
    tfdv.FeatureValueCount: "feature_value count",
    tfdv.make_feature_stats_proto_topk_uniques: "feature_path num_top_values num_rank_histogram_buckets num_unique "
    "value_count_list weighted_value_count_list frequency_threshold weighted_frequency_threshold",
    tfma.registered_metrics: "",
    tfma.ConfusionMatrixMetric.result: "self tp tn fp fn",
    tfma.update_eval_config_with_defaults: "eval_config maybe_add_baseline maybe_remove_baseline has_baseline "
    "rubber_stamp",
    tfma.convert_slice_metrics_to_proto: "metrics add_metrics_callbacks",
    # Modules that no documentation of theirs lists, and that the rooms `transform` and `tfx` are built on:
    analyzers.get_empy_vocabulary_dummy_value: "dtype",
    annotators.get_asset_annotations: "graph",
    annotators.clear_asset_annotations: "graph",
    graph_tools.get_analyzers_fingerprint: "graph structured_inputs",
    impl_helper.trace_preprocessing_function: "preprocessing_fn input_specs use_tf_compat_v1 base_temp_dir",
    impl_helper.trace_and_write_v2_saved_model: "saved_model_dir preprocessing_fn input_signature base_temp_dir "
    "baseline_analyzers_fingerprint tensor_replacement_map output_keys_to_name_map save_options",
    impl_helper.get_traced_transform_fn: "preprocessing_fn input_signature tf_graph_context output_keys_to_name_map",
    impl_helper.make_tensor_to_arrow_converter: "schema",
    tf_utils.fetch_vocabulary_reserved_tokens: "graph name",
    analysis_graph_builder.build: "graph input_signature output_signature dataset_keys cache_dict",
    TFGraphContext.__init__: "self module_to_export temp_dir evaluated_replacements",
    saved_transform_io_v2.trace_and_update_module: "module tf_function name strip_control_dependencies",
    saved_transform_io_v2.SavedModelLoader.__init__: "self saved_model_dir",
    data_types_utils.build_parsed_value_dict: "value_dict",
    runner_utils.extract_local_deployment_config: "pipeline",
    runner_utils.extract_executor_spec: "deployment_config node_id",
    runner_utils.extract_custom_driver_spec: "deployment_config node_id",
    execution_publish_utils.register_execution: "metadata_handle execution_type contexts input_artifacts "
    "exec_properties last_known_state",
    execution_publish_utils.publish_cached_executions: "metadata_handle contexts executions output_artifacts_maps",
    inputs_utils.resolve_input_artifacts: "pipeline_node metadata_handle",
    inputs_utils.resolve_parameters_with_schema: "node_parameters",
    outputs_utils.OutputsResolver.__init__: "self pipeline_node pipeline_info pipeline_runtime_spec execution_mode",
    runtime_parameter_utils.substitute_runtime_parameter: "msg parameter_bindings",
    context_lib.prepare_contexts: "metadata_handle node_contexts",
    event_lib.is_valid_output_event: "event expected_output_key",
    execution_lib.get_output_artifacts: "metadata_handle execution_id",
    array_util.flatten_nested: "array return_parent_indices",
    record_based_tfxio.AppendRawRecordColumn: "record_batch column_name raw_records record_index_column_name",
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


def test_the_second_of_tfdv_s_generators_is_the_one_that_estimates_counts_by_sketches():
    names = [type(generator).__name__ for generator in tfdv.get_generators(StatsOptions(), in_memory=True)]
    assert names == ["BasicStatsGenerator", "TopKUniquesSketchStatsGenerator"]


def test_tfma_registers_its_confusion_matrix_metrics_by_their_class():
    registered = tfma.registered_metrics()
    assert issubclass(registered["BinaryAccuracy"], tfma.ConfusionMatrixMetric)
    assert registered["MaxRecall"]().get_config()["name"] == tfma.MAX_RECALL_NAME
