"""TF Transform in this process: the same vocabularies, transform and examples as TFX's Transform, without Beam."""

import functools
import inspect
import json
import logging
import time
from importlib import import_module
from pathlib import Path

import tensorflow_transform as tft
from tfx.components.transform import component as tfx_transform
from tfx.components.transform import executor as tfx_executor
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from nightly.engines.beam import pipeline, pipeline_options
from nightly.transform.engine import Transformer, write_transform_graph

log = logging.getLogger("nightly")

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
    :param custom_config: JSON object, passed to the function if it takes `custom_config`
    """
    module, _, name = preprocessing_fn.rpartition(".")
    function = getattr(import_module(module), name)
    if "custom_config" in inspect.signature(function).parameters:
        function = functools.partial(function, custom_config=json.loads(custom_config))
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


class BeamTransformExecutor(tfx_executor.Executor):
    """TFX's executor, without packaging TFX for the workers: they have it installed."""

    def __init__(self, context: tfx_executor.Executor.Context) -> None:
        options = pipeline_options(context.beam_pipeline_args)
        context.beam_pipeline_args = []
        context.make_beam_pipeline_fn = lambda: pipeline(options)
        super().__init__(context)


class BeamTransform(tfx_transform.Transform):
    """TFX's Transform on the Beam runner that its beam_pipeline_args name."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(BeamTransformExecutor)
