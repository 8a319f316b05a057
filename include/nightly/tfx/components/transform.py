"""TF Transform in this process: the same vocabularies, transform and examples as TFX's Transform, without Beam."""

import functools
import inspect
import json
import logging
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import tensorflow_transform as tft
from tfx.components.transform import component as tfx_transform
from tfx.components.transform import executor as tfx_executor
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base import executor_spec
from tfx.types import Artifact, artifact_utils, standard_artifacts
from tfx.types.standard_component_specs import CUSTOM_CONFIG_KEY, SCHEMA_KEY
from tfx.utils import io_utils

from nightly.engines.beam import pipeline, pipeline_options
from nightly.transform.engine import Transformer, write_transform_graph

log = logging.getLogger("nightly")

Artifacts = dict[str, list[Artifact]]
ANALYZED = "train"
FILE_NAME = "transformed_examples-00000-of-00001"  # not compressed: written once and read several times


@component
def InProcessTransform(
    examples: InputArtifact[standard_artifacts.Examples],
    schema: InputArtifact[standard_artifacts.Schema],
    transform_graph: OutputArtifact[standard_artifacts.TransformGraph],
    transformed_examples: OutputArtifact[standard_artifacts.Examples],
    preprocessing_fn: Parameter[str],
    custom_config: Parameter[str],
) -> None:
    """Analyze the train split with a preprocessing_fn, and transform every split with the result.

    :param preprocessing_fn: its import path, package.module.function
    :param custom_config: JSON object. A function that takes `custom_config` gets it with `schema`, the schema's file
    """
    module, _, name = preprocessing_fn.rpartition(".")
    function = getattr(import_module(module), name)
    if "custom_config" in inspect.signature(function).parameters:
        function = functools.partial(function, custom_config=json.loads(_with_schema(custom_config, schema)))
    metadata = tft.DatasetMetadata(io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri)))
    graph = Path(transform_graph.uri)

    began = time.monotonic()
    write_transform_graph(function, artifact_utils.get_split_uri([examples], ANALYZED), metadata, graph)
    log.info("analyzed the %s split in %.1f s", ANALYZED, time.monotonic() - began)
    splits = artifact_utils.decode_split_names(examples.split_names)
    transformed_examples.split_names = artifact_utils.encode_split_names(splits)
    transformer = Transformer(graph)
    for split in splits:
        began = time.monotonic()
        path = Path(artifact_utils.get_split_uri([transformed_examples], split)) / FILE_NAME
        rows = transformer.write(artifact_utils.get_split_uri([examples], split), path)
        log.info("%s: %d examples transformed in %.1f s", split, rows, time.monotonic() - began)


def _with_schema(custom_config: str, schema: standard_artifacts.Schema) -> str:
    """Add the path of the schema file: it is no parameter, because the file's content matters and not its place."""
    return json.dumps(json.loads(custom_config) | {"schema": io_utils.get_only_uri_in_dir(schema.uri)})


class BeamTransformExecutor(tfx_executor.Executor):
    """TFX's executor, without packaging TFX for the workers: they have it installed. It passes the schema file, too."""

    def __init__(self, context: tfx_executor.Executor.Context) -> None:
        options = pipeline_options(context.beam_pipeline_args)
        context.beam_pipeline_args = []
        context.make_beam_pipeline_fn = lambda: pipeline(options)
        super().__init__(context)

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        (schema,) = input_dict[SCHEMA_KEY]
        custom_config = _with_schema(exec_properties[CUSTOM_CONFIG_KEY], schema)
        super().Do(input_dict, output_dict, exec_properties | {CUSTOM_CONFIG_KEY: custom_config})


class BeamTransform(tfx_transform.Transform):
    """TFX's Transform on the Beam runner that its beam_pipeline_args name."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(BeamTransformExecutor)
