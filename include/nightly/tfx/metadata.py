"""ML Metadata: where it is, and one process at a time in it.

SQLite's ML Metadata answers "database is locked" as soon as two processes write. PostgreSQL's lets both in, and then
has a type twice that both registered at once, since nothing there makes a type's name unique: artifacts of the second
are not found by the name. TFX enters the Metadata object for short transactions only (before a node runs, and after),
so that a file lock around each is all it takes.
"""

import contextlib
import itertools
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata
from tfx.orchestration.portable.mlmd import event_lib
from tfx.proto.orchestration import pipeline_pb2

from nightly.compat.tfx import PersistentMetadata
from nightly.io import variables
from nightly.io.locks import has_owner, locked
from nightly.io.paths import Paths
from nightly.records.base import Contract
from nightly.records.night import Night

log = logging.getLogger("nightly")

PIECE = 2000  # characters, all ASCII: PostgreSQL's index of properties takes no more than 2704 bytes
RUNNING = ".running-"  # begins the name of a node's lock file in its night's folder

Artifact = metadata_store_pb2.Artifact
Execution = metadata_store_pb2.Execution


def connection_config(paths: Paths, model: str) -> metadata_store_pb2.ConnectionConfig:
    """PostgreSQL where NIGHTLY_METADATA_DB names one (postgresql://user:password@host:port/name), else SQLite."""
    url = variables.METADATA_DB.read()
    if not url:
        return metadata.sqlite_metadata_connection_config(str(paths.metadata / f"{model}.sqlite"))
    parts = urlsplit(url)
    name = parts.path.lstrip("/")
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or not name:
        found = f"scheme {parts.scheme!r}, host {parts.hostname!r}, {'a' if name else 'no'} name"  # no password
        raise ValueError(f"NIGHTLY_METADATA_DB is not of the form postgresql://user:password@host:port/name: {found}")
    config = metadata_store_pb2.ConnectionConfig()
    config.postgresql.host = parts.hostname
    config.postgresql.port = str(parts.port or 5432)
    config.postgresql.user = unquote(parts.username or "")
    config.postgresql.password = unquote(parts.password or "")
    config.postgresql.dbname = name
    return config


class NightlyMetadata(PersistentMetadata):
    """The metadata handle for a model, entered by one process at a time: of this model, or in PostgreSQL of all."""

    def __init__(self, paths: Paths, model: str) -> None:
        config = connection_config(paths, model)
        super().__init__(config)
        sqlite = config.HasField("sqlite")
        self._lock_path = Path(config.sqlite.filename_uri + ".lock") if sqlite else paths.run / "metadata.lock"
        self._lock = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if not self.entered:
            self._lock.enter_context(locked(self._lock_path))
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        super().__exit__(kind, error, trace)
        if not self.entered:
            self._lock.close()


def keep(node: Artifact | Execution, name: str, contract: Contract) -> None:
    """Keep `contract` in custom properties of an artifact or execution: `name`, and as many more as it needs."""
    text = json.dumps(contract.model_dump(mode="json"))
    for number, start in enumerate(range(0, len(text), PIECE)):
        node.custom_properties[_piece(name, number)].string_value = text[start : start + PIECE]


def kept(node: Artifact | Execution, name: str) -> str:
    """Return the text of what `keep` has kept under `name`; empty where that is nothing."""
    names = (_piece(name, number) for number in itertools.count())
    pieces = itertools.takewhile(node.custom_properties.__contains__, names)
    return "".join(node.custom_properties[piece].string_value for piece in pieces)


def _piece(name: str, number: int) -> str:
    return f"{name}.{number}" if number else name


def outputs(handle: NightlyMetadata, node: pipeline_pb2.PipelineNode, key: str | None = None) -> list[Artifact]:
    """The live artifacts that `node` has in its run: of one output, or of all."""
    executions = _executions_of(handle, node)
    events = handle.store.get_events_by_execution_ids([e.id for e in executions]) if executions else []
    ids = {event.artifact_id for event in events if event_lib.is_valid_output_event(event, key)}
    return [a for a in handle.store.get_artifacts_by_id(list(ids)) if a.state == Artifact.LIVE] if ids else []


def resolve_inputs(
    handle: NightlyMetadata, node: pipeline_pb2.PipelineNode, nodes: Mapping[str, pipeline_pb2.PipelineNode]
) -> None:
    """Name the artifacts that `node` takes of its run, where they are there, in place of how to find them.

    TFX's launcher reads all executions of the pipeline for each input: each night would be slower than the last.

    :param nodes: by id, those whose outputs it takes among them
    """
    for spec in node.inputs.inputs.values():
        if any(channel.producer_node_query.id not in node.upstream_nodes for channel in spec.channels):
            continue  # of another pipeline
        found = [
            artifact.id
            for channel in spec.channels
            for artifact in outputs(handle, nodes[channel.producer_node_query.id], channel.output_key)
            if artifact.type == channel.artifact_query.type.name
        ]
        if found:
            del spec.channels[:]
            spec.static_inputs.artifact_ids.extend(dict.fromkeys(found))


def forget_outputs(handle: NightlyMetadata, node: pipeline_pb2.PipelineNode, root: Path) -> None:
    """Take earlier tries of `node` in its run out of sight, so that its consumers get the outputs of one try only.

    :param root: the pipeline's folder; what a killed try had begun there goes too
    """
    stale = outputs(handle, node)
    for artifact in stale:
        artifact.state = Artifact.ABANDONED
    if stale:
        handle.store.put_artifacts(stale)
    unfinished = _unfinished(_executions_of(handle, node))
    for execution in unfinished:
        _cancel(execution, root / node.node_info.id)
    if unfinished:
        handle.store.put_executions(unfinished)


def close_abandoned(handle: NightlyMetadata, model: str, nights: Path, root: Path) -> None:
    """Close the executions of the model's nights whose process died before it could.

    Only nights with a lock file that nobody holds (node_lock) are read in ML Metadata.

    :param nights: the folder of the model's nights
    :param root: the pipeline's folder; what the dead had begun there goes too
    """
    for lock in nights.glob(f"*/{RUNNING}*"):
        if has_owner(lock):
            continue
        node_id = lock.name.removeprefix(RUNNING)
        run = Night.load(lock.parent / "request.json").run_id
        for execution in _unfinished(_executions(handle, run, f"{model}.{node_id}")):
            _cancel(execution, root / node_id)
            handle.store.put_executions([execution])
            log.info("closed %s of %s in ML Metadata, whose process had died", node_id, run)
        lock.unlink(missing_ok=True)


@contextlib.contextmanager
def node_lock(night_folder: Path, node_id: str) -> Iterator[None]:
    """Hold the file that says that the node runs; one that stays behind without an owner says that it died."""
    lock = night_folder / f"{RUNNING}{node_id}"
    with locked(lock):
        yield
        lock.unlink(missing_ok=True)


def _unfinished(executions: Iterable[Execution]) -> list[Execution]:
    return [e for e in executions if e.last_known_state in (Execution.NEW, Execution.RUNNING)]


def _cancel(execution: Execution, folder: Path) -> None:
    """Mark a try that was killed; `folder` is its node's, and loses what the try had begun there."""
    execution.last_known_state = Execution.CANCELED
    for begun in folder.glob(f"*/{execution.id}"):
        shutil.rmtree(begun, ignore_errors=True)


def _executions_of(handle: NightlyMetadata, node: pipeline_pb2.PipelineNode) -> list[Execution]:
    """The node's executions in its run."""
    names = {context.type.name: context.name.field_value.string_value for context in node.contexts.contexts}
    return _executions(handle, names["pipeline_run"], names["node"])


def _executions(handle: NightlyMetadata, run_id: str, node_name: str) -> list[Execution]:
    """By way of the run: the pipeline has all nights' executions, and the node its own of all nights.

    :param node_name: of the node's context, MODEL.NODE_ID
    """
    run = handle.store.get_context_by_type_and_name("pipeline_run", run_id)
    node = handle.store.get_context_by_type_and_name("node", node_name)
    if run is None or node is None:
        return []
    of_run = handle.store.get_executions_by_context(run.id)
    return [e for e in of_run if any(c.id == node.id for c in handle.store.get_contexts_by_execution(e.id))]
