"""A cache of node outputs: the same data, code and configuration are not computed twice.

A node's outputs follow from its ingredients:

- the content of its input artifacts, and its parameters
- the code that it runs, and the model's configuration where that code reads it
- the installed packages

Each execution in ML Metadata carries a cache entry: the ingredients' hashes, and hashes of the outputs' files. A later
node with the same ingredients gets these files as its own outputs, if they are intact. They are hard links, so
retention or a retry of one run does not remove them from another.

Nodes that judge or release always run, because they depend on more than their inputs.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_metadata import ListOptions, OrderByField
from tfx.orchestration import data_types_utils
from tfx.orchestration.portable import execution_publish_utils, inputs_utils, outputs_utils
from tfx.orchestration.portable.mlmd import context_lib, execution_lib
from tfx.proto.orchestration import executable_spec_pb2, pipeline_pb2
from tfx.types.artifact import ArtifactState

from nightly.compat.mlmd import register_execution
from nightly.io.code import sources_of
from nightly.io.files import hash_files
from nightly.io.paths import ROOT
from nightly.models import config_of
from nightly.records.base import ContractError
from nightly.records.config import ModelConfig
from nightly.records.night import Night
from nightly.records.reuse import CacheEntry, Reuse
from nightly.schemas.curated import schema_fingerprint
from nightly.state import publish
from nightly.state.errors import DamagedStateError
from nightly.tfx.metadata import Artifact, Execution, NightlyMetadata, keep, kept
from nightly.tfx.seals import Artifacts, Contents, fetched, seal, seal_of

log = logging.getLogger("nightly")

# Nodes whose outputs follow from their ingredients. A node that judges, or that a model adds, is not listed.
REUSABLE = ("examples", "statistics", "example_validator", "transform", "trainer", "refit")
REUSABLE += ("evaluator", "infra_validator")
USER_CODE = {
    "transform": "preprocessing",
    "trainer": "model",
    "refit": "model",
}  # node -> the module of the model's folder that it runs
# Sections of a model's config that do not affect what a node computes.
IGNORED_SECTIONS = {"name", "description", "owner", "tags", "source", "schedule", "pipeline", "run"}
IGNORED_SECTIONS |= {"data_gate", "schema_review", "model_gate", "release", "retention"}
EXECUTIONS = 60  # how many of a node's newest executions are searched
SCHEMA = "schema.pbtxt"
PROPERTY = "nightly_made"  # of an execution: its CacheEntry


class NodeCache:
    """The cache of one node in one night.

    :param executor: the node's executor spec, from the pipeline's deployment configuration
    :param inputs: the node's input artifacts by name
    :param contents: the hashes of the inputs' files
    """

    def __init__(
        self,
        handle: NightlyMetadata,
        node: pipeline_pb2.PipelineNode,
        pipeline: pipeline_pb2.Pipeline,
        executor: Any,
        night: Night,
        inputs: Artifacts,
        contents: Contents,
    ) -> None:
        self.handle = handle
        self.node = node
        self.pipeline = pipeline
        self.night = night
        self.id = node.node_info.id
        self.inputs = inputs
        self.contents = contents
        self.parameters = data_types_utils.build_parsed_value_dict(
            inputs_utils.resolve_parameters_with_schema(node_parameters=node.parameters)
        )
        self.executor = _class_path(executor)
        self.ingredients = dict(self._ingredients())

    def restore(self) -> Reuse:
        """Publish an earlier execution's outputs as this run's, if one matches; return whose, or why none does."""
        if self.night.fresh:
            return self._miss("this run was asked to compute everything anew")
        with self.handle:
            earlier = self._entries()
        matching = [(execution, entry) for execution, entry in earlier if entry.ingredients == self.ingredients]
        if not matching:
            return self._miss(self._difference(earlier[0][1]) if earlier else "no earlier run of it is known")
        damaged = []
        for execution, entry in matching:
            with self.handle:
                theirs = execution_lib.get_output_artifacts(self.handle, execution.id)
            if any(a.mlmd_artifact.state != Artifact.LIVE for artifacts in theirs.values() for a in artifacts):
                continue  # replaced by a retry, or removed by retention
            changed = _changed_outputs(theirs, entry)
            damaged += changed
            if not changed:
                self._publish(theirs, entry)
                reason = f"the same {self._named_inputs()}, code and configuration as in {_run(entry)}"
                return Reuse(task=self.id, run_id=entry.run_id, as_of=entry.as_of, reason=reason)
        return self._miss("; ".join(damaged) or f"the outputs of {_run(matching[0][1])} are not kept any more")

    def store(self, execution_id: int, outputs: Artifacts) -> None:
        """Store a cache entry for the outputs of an execution, unless the code changed while it ran."""
        if dict(self._code()).items() - self.ingredients.items():
            log.warning("the code changed while %s ran: its outputs will not be reused", self.id)
            return
        contents = {
            key: [content(artifact.uri, sealed.files) for artifact in group if (sealed := seal_of(artifact))]
            for key, group in outputs.items()
        }
        entry = CacheEntry(
            run_id=self.night.run_id, as_of=self.night.as_of, ingredients=self.ingredients, outputs=contents
        )
        with self.handle:
            (execution,) = self.handle.store.get_executions_by_id([execution_id])
            keep(execution, PROPERTY, entry)
            self.handle.store.put_executions([execution])

    def _ingredients(self) -> Iterator[tuple[str, str]]:
        """Yield each ingredient's name and hash: first what a person changes, last what follows from it.

        The first difference in this order is reported.
        """
        yield from self._code()
        for name, value in sorted(self.parameters.items()):
            yield f"parameter {name}", _hash(str(value))
        for name, artifacts in sorted(self.inputs.items()):
            yield f"input {name}", _hash(*(content(a.uri, self.contents[a.uri]) for a in artifacts))

    def _code(self) -> Iterator[tuple[str, str]]:
        """Yield the hashes of the node's sources, the configuration and files that they read, and the packages."""
        names = [self.executor, *_texts(self.parameters)]
        if self.id in USER_CODE:
            yield from code_of_model(config_of(self.night), USER_CODE[self.id])
        yield from code_of(names)
        yield "executor", self.executor

    def _entries(self) -> list[tuple[Execution, CacheEntry]]:
        """Return the node's executions that have a cache entry, the newest first."""
        name = f"{self.pipeline.pipeline_info.id}.{self.id}"
        context = self.handle.store.get_context_by_type_and_name("node", name)
        if context is None:
            return []
        newest = ListOptions(limit=EXECUTIONS, order_by=OrderByField.ID, is_asc=False)
        entries = []
        for execution in self.handle.store.get_executions_by_context(context.id, list_options=newest):
            if execution.last_known_state in (Execution.COMPLETE, Execution.CACHED):
                with contextlib.suppress(ContractError):  # written by another version or runner
                    text = kept(execution, PROPERTY)
                    entries.append((execution, CacheEntry.parse(text, where=f"execution {execution.id} of {self.id}")))
        return entries

    def _difference(self, entry: CacheEntry) -> str:
        """Name the first ingredient that differs from an earlier run's."""
        ours, theirs = self.ingredients, entry.ingredients
        first = next(name for name in [*ours, *theirs] if ours.get(name) != theirs.get(name))
        subject = f"its {first}" if first.startswith(("input ", "parameter ")) else first
        subject = "the snapshot" if first == "parameter snapshot" else subject
        change = "has changed" if first in ours and first in theirs else "is new" if first in ours else "is gone"
        return f"{subject} {change} since {_run(entry)}"

    def _miss(self, reason: str) -> Reuse:
        return Reuse(task=self.id, reason=reason)

    def _named_inputs(self) -> str:
        snapshot = self.parameters.get("snapshot")
        return f"snapshot {Path(snapshot).name[:12]}" if snapshot else ", ".join(sorted(self.inputs)) or "parameters"

    def _publish(self, theirs: Artifacts, entry: CacheEntry) -> None:
        """Publish a CACHED execution of this run, whose outputs are hard links to the files of `theirs`."""
        with self.handle:
            contexts = context_lib.prepare_contexts(metadata_handle=self.handle, node_contexts=self.node.contexts)
            execution = register_execution(
                self.handle,
                self.node.node_info.type,
                contexts,
                input_artifacts=self.inputs,
                exec_properties=self.parameters,
            )
            resolver = outputs_utils.OutputsResolver(self.node, self.pipeline.pipeline_info, self.pipeline.runtime_spec)
            ours = resolver.generate_output_artifacts(execution.id)
        for key, artifacts in ours.items():
            for our, their in zip(artifacts, theirs[key], strict=True):
                shutil.copytree(their.uri, our.uri, copy_function=link_file, dirs_exist_ok=True)
                for name in ("properties", "custom_properties"):
                    getattr(our.mlmd_artifact, name).MergeFrom(getattr(their.mlmd_artifact, name))
                our.state = ArtifactState.PUBLISHED
                if seal_of(our) is None:  # written by an older version
                    seal([our.mlmd_artifact], self.id, entry.run_id)
                publish(Path(our.uri))
        keep(execution, PROPERTY, entry)
        with self.handle:
            execution_publish_utils.publish_cached_executions(self.handle, contexts, [execution], [ours])


def code_of_model(config: ModelConfig, *modules: str) -> Iterator[tuple[str, str]]:
    """Yield the hashes of modules in a model's folder, of the files beside them and of the configuration."""
    yield from _files(ROOT / "include/models" / config.name)
    for section, values in config.model_dump(mode="json", exclude=IGNORED_SECTIONS).items():
        yield f"config.toml's {section}", _hash(json.dumps(values, sort_keys=True))
    yield from sources_of([f"include.models.{config.name}.{module}" for module in modules], ROOT).items()


def code_of(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the hashes of the project's sources that the code named by `names` can import, and of the packages."""
    yield from sources_of(names, ROOT).items()
    yield "the installed packages", _hash(_installed().read_text())


def content(uri: str, files: dict[str, str]) -> str:
    """Return a hash of an artifact's file names and contents. A schema's comments and layout do not count."""
    if SCHEMA in files:
        files = files | {SCHEMA: schema_fingerprint(Path(uri) / SCHEMA)}
    return _hash(json.dumps(files, sort_keys=True))


def _changed_outputs(artifacts: Artifacts, entry: CacheEntry) -> list[str]:
    """Return a message that names the outputs whose files differ from the cache entry, or [] if there are none."""
    try:
        hashes = {
            key: [content(artifact.uri, fetched(Path(artifact.uri), seal_of(artifact))) for artifact in group]
            for key, group in artifacts.items()
        }
    except DamagedStateError as error:
        return [f"an output of {_run(entry)} is damaged ({error})"]
    changed = sorted(key for key in entry.outputs.keys() | hashes.keys() if entry.outputs.get(key) != hashes.get(key))
    paths = ", ".join(artifact.uri for key in changed for artifact in artifacts.get(key, []))
    return [f"{', '.join(changed)} of {_run(entry)} is damaged or missing ({paths})"] if changed else []


def _run(entry: CacheEntry) -> str:
    return f"{entry.run_id} (as of {entry.as_of:%Y-%m-%d})"


def _class_path(executor: Any) -> str:
    if isinstance(executor, executable_spec_pb2.BeamExecutableSpec):
        return executor.python_executor_spec.class_path
    return executor.class_path


def _texts(parameters: Mapping[str, Any]) -> list[str]:
    """Return the parameters that can name code, e.g. run_fn."""
    return [value for value in parameters.values() if isinstance(value, str)]


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the hashes of files that a model's code may read. The schema is left out: it is an input artifact."""
    for name, digest in hash_files(folder).items():
        if name not in ("config.toml", SCHEMA) and not name.endswith((".py", ".pyc")):
            yield f"include/models/{folder.name}/{name}", digest


def _installed() -> Path:
    """Return the file that lists the installed packages: the set-up's stamp, or the lock file."""
    stamp = Path(sys.prefix) / "installed.txt"
    return stamp if stamp.exists() else ROOT / "requirements-ml.txt"


def link_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
