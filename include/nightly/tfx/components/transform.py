"""TF Transform in this process: the same vocabularies, transform and examples as TFX's Transform, without Beam."""

import functools
import inspect
import json
import logging
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow_transform as tft
from tfx.components.transform import component as tfx_transform
from tfx.components.transform import executor as tfx_executor
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base import executor_spec
from tfx.types import Artifact, artifact_utils, standard_artifacts
from tfx.types.standard_component_specs import (
    CUSTOM_CONFIG_KEY,
    EXAMPLES_KEY,
    PREPROCESSING_FN_KEY,
    SCHEMA_KEY,
    TRANSFORM_GRAPH_KEY,
    TRANSFORMED_EXAMPLES_KEY,
)
from tfx.utils import io_utils

from nightly.engines.beam import pipeline, pipeline_options
from nightly.examples.reading import records
from nightly.state import current, publish
from nightly.state.workers import collect
from nightly.transform.engine import Transformer, WorkersTransform, write_transform_graph

log = logging.getLogger("nightly")

Artifacts = dict[str, list[Artifact]]
ANALYZED = "train"
FILES = "transformed_examples"
FILE_NAME = f"{FILES}-00000-of-00001"  # not compressed: written once and read several times


def _transform(
    examples: Artifact,
    schema: Artifact,
    transform_graph: Artifact,
    transformed_examples: Artifact,
    preprocessing_fn: str,
    custom_config: str,
    write: Callable[[str, Path], int],
) -> None:
    """Analyze the train split in this process, and have `write` transform each split: its URI, and the output's."""
    module, _, name = preprocessing_fn.rpartition(".")
    function = getattr(import_module(module), name)
    if "custom_config" in inspect.signature(function).parameters:
        function = functools.partial(function, custom_config=json.loads(_with_schema(custom_config, schema)))
    metadata = tft.DatasetMetadata(io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri)))

    began = time.monotonic()
    train = artifact_utils.get_split_uri([examples], ANALYZED)
    write_transform_graph(function, train, metadata, Path(transform_graph.uri))
    log.info("analyzed the %s split in %.1f s", ANALYZED, time.monotonic() - began)
    splits = artifact_utils.decode_split_names(examples.split_names)
    transformed_examples.split_names = artifact_utils.encode_split_names(splits)
    for split in splits:
        began = time.monotonic()
        output = Path(artifact_utils.get_split_uri([transformed_examples], split))
        rows = write(artifact_utils.get_split_uri([examples], split), output)
        log.info("%s: %d examples transformed in %.1f s", split, rows, time.monotonic() - began)


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
    transformer = functools.cache(lambda: Transformer(Path(transform_graph.uri)))

    def write(source: str, output: Path) -> int:
        return transformer().write(source, output / FILE_NAME)

    _transform(examples, schema, transform_graph, transformed_examples, preprocessing_fn, custom_config, write)


def _with_schema(custom_config: str, schema: standard_artifacts.Schema) -> str:
    """Add the path of the schema file: it is no parameter, because the file's content matters and not its place."""
    return json.dumps(json.loads(custom_config) | {"schema": io_utils.get_only_uri_in_dir(schema.uri)})


class BeamTransformExecutor(tfx_executor.Executor):
    """TFX's executor, without packaging TFX for the workers: they have it installed. It passes the schema file, too.

    TFT's workers pass each other SavedModels by TensorFlow's file system, which knows no s3:// or az://. Where the
    workers share no folder, the analysis runs in this process, and the workers transform.
    """

    def __init__(self, context: tfx_executor.Executor.Context) -> None:
        self._options = options = pipeline_options(context.beam_pipeline_args)
        context.beam_pipeline_args = []
        context.make_beam_pipeline_fn = lambda: pipeline(options)
        super().__init__(context)

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        (schema,) = input_dict[SCHEMA_KEY]
        if current().shared:
            self._without_shared_folder(input_dict, output_dict, exec_properties)
            return
        custom_config = _with_schema(exec_properties[CUSTOM_CONFIG_KEY], schema)
        super().Do(input_dict, output_dict, exec_properties | {CUSTOM_CONFIG_KEY: custom_config})

    def _without_shared_folder(self, inputs: Artifacts, outputs: Artifacts, properties: dict[str, Any]) -> None:
        (examples,), (schema,) = inputs[EXAMPLES_KEY], inputs[SCHEMA_KEY]
        (graph,), (transformed,) = outputs[TRANSFORM_GRAPH_KEY], outputs[TRANSFORMED_EXAMPLES_KEY]

        def write(source: str, output: Path) -> int:
            publish(Path(graph.uri))  # for the workers; again at the node's end, which changes nothing
            files = sorted(str(path) for path in Path(source).iterdir())
            work = WorkersTransform(graph.uri, examples.uri, str(output / FILES), len(files))
            with pipeline(self._options) as begin:
                _ = begin | beam.Create(list(enumerate(files)), reshuffle=True) | beam.Map(work.write)
            collect(output)
            return sum(1 for _ in records(str(output)))

        function, config = properties[PREPROCESSING_FN_KEY], properties[CUSTOM_CONFIG_KEY]
        _transform(examples, schema, graph, transformed, function, config, write)


class BeamTransform(tfx_transform.Transform):
    """TFX's Transform on the Beam runner that its beam_pipeline_args name."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(BeamTransformExecutor)
