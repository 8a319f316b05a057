"""Work that an earlier night has done already is taken over: the same data, code and configuration, the same outputs.

What goes into a node's outputs are its ingredients: the content of its input artifacts, its parameters, the code that
it runs, the model's configuration where that code reads it, and the installed packages. They are kept with each
execution in ML Metadata, with a hash of the outputs' files. A later node of the same ingredients gets these files, if
they still are what they were, as outputs of its own: hard links, so that neither retention nor a retry in one run takes
them from another.

What judges, or puts into production, always runs: it depends on more than its inputs.
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

from nightly.io.code import sources_of
from nightly.io.files import hash_files
from nightly.io.paths import ROOT
from nightly.models import config_of
from nightly.records.base import ContractError
from nightly.records.config import ModelConfig
from nightly.records.night import Night
from nightly.records.reuse import Made, Reuse
from nightly.schemas.curated import schema_fingerprint
from nightly.tfx.metadata import Artifact, Execution, NightlyMetadata, keep, kept
from nightly.tfx.seals import Artifacts, Contents, seal, seal_of

log = logging.getLogger("nightly")

# Nodes whose outputs follow from their ingredients. Not in here: a node that judges, or that somebody has added.
REUSABLE = ("examples", "statistics", "example_validator", "transform", "trainer", "evaluator", "infra_validator")
USER_CODE = {"transform": "preprocessing", "trainer": "model"}  # run this module of the model's folder
# Of a model's config: who runs it, where its rows are from, and what it is judged by. The rest is an ingredient.
NO_INGREDIENTS = {"name", "description", "owner", "tags", "source", "schedule", "pipeline"}
NO_INGREDIENTS |= {"data_gate", "schema_review", "model_gate", "release", "retention"}
EXECUTIONS = 60  # of a node that are looked through, the newest first
SCHEMA = "schema.pbtxt"
PROPERTY = "nightly_made"  # of an execution: Made


class Work:
    """What one node is to do in one night, and who has done it before.

    :param executor: how the node is run, from the pipeline's deployment configuration
    :param inputs: the node's, by name
    :param contents: the hashes of their files
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

    def take_over(self) -> Reuse:
        """Publish an earlier execution's outputs as this run's, if there is one; says whose, or why not."""
        if self.night.fresh:
            return self._anew("this run was asked to compute everything anew")
        with self.handle:
            earlier = self._earlier()
        same = [(execution, made) for execution, made in earlier if made.ingredients == self.ingredients]
        if not same:
            return self._anew(self._difference(earlier[0][1]) if earlier else "no earlier run of it is known")
        damaged = []
        for execution, made in same:
            with self.handle:
                theirs = execution_lib.get_output_artifacts(self.handle, execution.id)
            if any(a.mlmd_artifact.state != Artifact.LIVE for artifacts in theirs.values() for a in artifacts):
                continue  # a retry made others, or retention has removed them
            damaged += (wrong := _not_as_made(theirs, made))
            if not wrong:
                self._publish(theirs, made)
                reason = f"the same {self._named_inputs()}, code and configuration as in {_run(made)}"
                return Reuse(task=self.id, run_id=made.run_id, as_of=made.as_of, reason=reason)
        why = "; ".join(damaged) or f"the outputs of {_run(same[0][1])} are not kept any more"
        return self._anew(why)

    def remember(self, execution_id: int, outputs: Artifacts) -> None:
        """Let later nights take over what has just been made."""
        if dict(self._code()).items() - self.ingredients.items():
            log.warning("the code changed while %s ran: its outputs will not be reused", self.id)
            return
        contents = {
            key: [content(artifact.uri, sealed.files) for artifact in group if (sealed := seal_of(artifact))]
            for key, group in outputs.items()
        }
        made = Made(run_id=self.night.run_id, as_of=self.night.as_of, ingredients=self.ingredients, outputs=contents)
        with self.handle:
            (execution,) = self.handle.store.get_executions_by_id([execution_id])
            keep(execution, PROPERTY, made)
            self.handle.store.put_executions([execution])

    def _ingredients(self) -> Iterator[tuple[str, str]]:
        """In the order in which a difference is told: what a person changes first, what follows from it last."""
        yield from self._code()
        for name, value in sorted(self.parameters.items()):
            yield f"parameter {name}", _hash(str(value))
        for name, artifacts in sorted(self.inputs.items()):
            yield f"input {name}", _hash(*(content(a.uri, self.contents[a.uri]) for a in artifacts))

    def _code(self) -> Iterator[tuple[str, str]]:
        """Its source files, the configuration and other files that these read, and the packages they run with."""
        names = [self.executor, *_texts(self.parameters)]
        if self.id in USER_CODE:
            yield from code_of_model(config_of(self.night), USER_CODE[self.id])
        yield from code_of(names)
        yield "executor", self.executor

    def _earlier(self) -> list[tuple[Execution, Made]]:
        """The node's executions whose ingredients are known, the newest first."""
        kind, name = "node", f"{self.pipeline.pipeline_info.id}.{self.id}"
        context = self.handle.store.get_context_by_type_and_name(kind, name)
        if context is None:
            return []
        newest = ListOptions(limit=EXECUTIONS, order_by=OrderByField.ID, is_asc=False)
        found = []
        for execution in self.handle.store.get_executions_by_context(context.id, list_options=newest):
            if execution.last_known_state in (Execution.COMPLETE, Execution.CACHED):
                with contextlib.suppress(ContractError):  # of another version of this project, or none of ours
                    text = kept(execution, PROPERTY)
                    found.append((execution, Made.parse(text, where=f"execution {execution.id} of {self.id}")))
        return found

    def _difference(self, made: Made) -> str:
        """The first ingredient that is another one than it was in an earlier run."""
        ours, theirs = self.ingredients, made.ingredients
        first = next(name for name in [*ours, *theirs] if ours.get(name) != theirs.get(name))
        said = f"its {first}" if first.startswith(("input ", "parameter ")) else first
        said = "the snapshot" if first == "parameter snapshot" else said
        what = "has changed" if first in ours and first in theirs else "is new" if first in ours else "is gone"
        return f"{said} {what} since {_run(made)}"

    def _anew(self, reason: str) -> Reuse:
        return Reuse(task=self.id, reason=reason)

    def _named_inputs(self) -> str:
        snapshot = self.parameters.get("snapshot")
        return f"snapshot {Path(snapshot).name[:12]}" if snapshot else ", ".join(sorted(self.inputs)) or "parameters"

    def _publish(self, theirs: Artifacts, made: Made) -> None:
        """A CACHED execution of this run, whose outputs are links to the files of `theirs`."""
        with self.handle:
            contexts = context_lib.prepare_contexts(metadata_handle=self.handle, node_contexts=self.node.contexts)
            execution = execution_publish_utils.register_execution(
                self.handle, self.node.node_info.type, contexts, self.inputs, self.parameters
            )
            resolver = outputs_utils.OutputsResolver(self.node, self.pipeline.pipeline_info, self.pipeline.runtime_spec)
            ours = resolver.generate_output_artifacts(execution.id)
        for key, artifacts in ours.items():
            for our, their in zip(artifacts, theirs[key], strict=True):
                shutil.copytree(their.uri, our.uri, copy_function=link_file, dirs_exist_ok=True)
                for name in ("properties", "custom_properties"):
                    getattr(our.mlmd_artifact, name).MergeFrom(getattr(their.mlmd_artifact, name))
                our.state = ArtifactState.PUBLISHED
                if seal_of(our) is None:  # an older version made it
                    seal([our.mlmd_artifact], self.id, made.run_id)
        keep(execution, PROPERTY, made)
        with self.handle:
            execution_publish_utils.publish_cached_executions(self.handle, contexts, [execution], [ours])


def code_of_model(config: ModelConfig, *modules: str) -> Iterator[tuple[str, str]]:
    """What these modules of a model's folder, the files beside them and the configuration say."""
    yield from _files(ROOT / "include/models" / config.name)
    for section, content in config.model_dump(mode="json", exclude=NO_INGREDIENTS).items():
        yield f"config.toml's {section}", _hash(json.dumps(content, sort_keys=True))
    yield from sources_of([f"include.models.{config.name}.{module}" for module in modules], ROOT).items()


def code_of(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The project's sources that running `names` can reach, and the packages that they run with."""
    yield from sources_of(names, ROOT).items()
    yield "the installed packages", _hash(_installed().read_text())


def content(uri: str, files: dict[str, str]) -> str:
    """A hash of an artifact's files: their names and what is in them. Of a schema only what it means counts."""
    if SCHEMA in files:
        files = files | {SCHEMA: schema_fingerprint(Path(uri) / SCHEMA)}
    return _hash(json.dumps(files, sort_keys=True))


def _not_as_made(artifacts: Artifacts, made: Made) -> list[str]:
    """What of an earlier run's outputs is not on disk as it was made."""
    found = {
        key: [content(artifact.uri, hash_files(Path(artifact.uri))) for artifact in group]
        for key, group in artifacts.items()
    }
    wrong = sorted(key for key in made.outputs.keys() | found.keys() if made.outputs.get(key) != found.get(key))
    paths = ", ".join(artifact.uri for key in wrong for artifact in artifacts.get(key, []))
    return [f"{', '.join(wrong)} of {_run(made)} is damaged or missing ({paths})"] if wrong else []


def _run(made: Made) -> str:
    return f"{made.run_id} (as of {made.as_of:%Y-%m-%d})"


def _class_path(executor: Any) -> str:
    if isinstance(executor, executable_spec_pb2.BeamExecutableSpec):
        return executor.python_executor_spec.class_path
    return executor.class_path


def _texts(parameters: Mapping[str, Any]) -> list[str]:
    """Those that can name code, e.g. run_fn."""
    return [value for value in parameters.values() if isinstance(value, str)]


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """What a model's folder holds that its code may read. The schema is left out: a night's own comes as an input."""
    for name, digest in hash_files(folder).items():
        if name not in ("config.toml", SCHEMA) and not name.endswith((".py", ".pyc")):
            yield f"include/models/{folder.name}/{name}", digest


def _installed() -> Path:
    """What says which packages this environment has: the set-up's stamp, or the lock."""
    stamp = Path(sys.prefix) / "installed.txt"
    return stamp if stamp.exists() else ROOT / "requirements-ml.txt"


def link_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
