"""ML Metadata: its connection, and a lock that lets in one process at a time.

SQLite fails with "database is locked" as soon as two processes write. PostgreSQL lets both in, but has no unique index
on type names: two processes that register a type at once create it twice, and a look-up by name then misses artifacts
of the second. TFX enters the Metadata object only for short transactions, before and after a node runs. A lock around
each transaction is therefore enough.
"""

import contextlib
import itertools
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata
from tfx.orchestration.portable.mlmd import event_lib
from tfx.proto.orchestration import pipeline_pb2

from nightly.compat.mlmd import chunk_name, chunks
from nightly.compat.tfx import PersistentMetadata
from nightly.io import variables
from nightly.io.paths import Paths, safe_name
from nightly.records.base import Contract, ContractError
from nightly.state import current, publish, remove
from nightly.state.errors import StateAddressError
from nightly.state.names import RUNNING
from nightly.tfx.artifacts import RENAMED

log = logging.getLogger("nightly")

Artifact = metadata_store_pb2.Artifact
Execution = metadata_store_pb2.Execution


def connection_config(paths: Paths, model: str) -> metadata_store_pb2.ConnectionConfig:
    """Return the connection to PostgreSQL if NIGHTLY_METADATA_DB names a database, else to the model's SQLite file.

    Raises StateAddressError if the state is shared and there is none, and ContractError if NIGHTLY_METADATA_DB is not
    of the form postgresql://user:password@host:port/name.
    """
    url = variables.METADATA_DB.read()
    if not url and current().shared:
        raise StateAddressError(
            f"the state is in {variables.STATE.read()}, and ML Metadata would be a file of this host: set "
            "NIGHTLY_METADATA_DB to a PostgreSQL database that all hosts reach"
        )
    if not url:
        return metadata.sqlite_metadata_connection_config(str(paths.metadata / f"{model}.sqlite"))
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError:  # its message may have a part of the password
        raise _malformed(
            "its host or port cannot be read; a password's special characters are percent-encoded"
        ) from None
    name = parts.path.lstrip("/")
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or not name:
        raise _malformed(f"scheme {parts.scheme!r}, host {parts.hostname!r}, {'a' if name else 'no'} name")
    config = metadata_store_pb2.ConnectionConfig()
    config.postgresql.host = parts.hostname
    config.postgresql.port = str(port)
    config.postgresql.user = _quoted(unquote(parts.username or ""))
    config.postgresql.password = _quoted(unquote(parts.password or ""))
    config.postgresql.dbname = name
    return config


def _malformed(summary: str) -> ContractError:
    """Return the error of a malformed NIGHTLY_METADATA_DB. The summary has no password."""
    return ContractError(f"NIGHTLY_METADATA_DB is not of the form postgresql://user:password@host:port/name: {summary}")


def _quoted(value: str) -> str:
    """Quote a value as libpq's `name=value` strings need it: ML Metadata puts values into one as they are."""
    if not re.search(r"[\s'\\]", value):
        return value
    return "'" + re.sub(r"(['\\])", r"\\\1", value) + "'"


class NightlyMetadata(PersistentMetadata):
    """A model's metadata handle, which one process at a time enters. All models share PostgreSQL's lock."""

    def __init__(self, paths: Paths, model: str) -> None:
        config = connection_config(paths, model)
        super().__init__(config)
        sqlite = config.HasField("sqlite")
        self._lock_path = Path(config.sqlite.filename_uri + ".lock") if sqlite else paths.run / "metadata.lock"
        self._lock = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if not self.entered:
            self._lock.enter_context(current().locked(self._lock_path))
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
    """Store `contract` in the custom property `name` of an artifact or execution, and `name`.1, … if it is long."""
    for part, text in chunks(name, json.dumps(contract.model_dump(mode="json"))).items():
        node.custom_properties[part].string_value = text


def kept(node: Artifact | Execution, name: str) -> str:
    """Return the JSON text that `keep` stored under `name`; "" if there is none."""
    names = (chunk_name(name, number) for number in itertools.count())
    present = itertools.takewhile(node.custom_properties.__contains__, names)
    return "".join(node.custom_properties[part].string_value for part in present)


def outputs(handle: NightlyMetadata, node: pipeline_pb2.PipelineNode, key: str | None = None) -> list[Artifact]:
    """Return the live artifacts that `node` produced in its run, optionally of output `key` only."""
    executions = _executions_of(handle, node)
    events = handle.store.get_events_by_execution_ids([e.id for e in executions]) if executions else []
    ids = {event.artifact_id for event in events if event_lib.is_valid_output_event(event, key)}
    return [a for a in handle.store.get_artifacts_by_id(list(ids)) if a.state == Artifact.LIVE] if ids else []


def resolve_inputs(
    handle: NightlyMetadata, node: pipeline_pb2.PipelineNode, nodes: Mapping[str, pipeline_pb2.PipelineNode]
) -> None:
    """Replace the input channels of `node` by the ids of this run's artifacts, where they exist.

    TFX's launcher reads every execution of the pipeline for each input, so each night would be slower than the last.

    :param nodes: the pipeline's nodes by id, including the producers of the inputs
    """
    for spec in node.inputs.inputs.values():
        if any(channel.producer_node_query.id not in node.upstream_nodes for channel in spec.channels):
            continue  # from another pipeline
        artifact_ids = [
            artifact.id
            for channel in spec.channels
            for artifact in outputs(handle, nodes[channel.producer_node_query.id], channel.output_key)
            if RENAMED.get(artifact.type, artifact.type) == channel.artifact_query.type.name
        ]
        if artifact_ids:
            del spec.channels[:]
            spec.static_inputs.artifact_ids.extend(dict.fromkeys(artifact_ids))


def forget_outputs(handle: NightlyMetadata, node: pipeline_pb2.PipelineNode, root: Path) -> None:
    """Abandon the outputs of earlier attempts of `node` in its run, so that consumers read one attempt only.

    :param root: the pipeline's folder, from which the outputs of killed attempts are removed
    """
    stale = outputs(handle, node)
    for artifact in stale:
        artifact.state = Artifact.ABANDONED
    if stale:
        handle.store.put_artifacts(stale)
    unfinished = _unfinished(_executions_of(handle, node))
    for execution in unfinished:
        _cancel(execution, root / node.node_info.id, node.outputs.outputs)
    if unfinished:
        handle.store.put_executions(unfinished)


def close_abandoned(
    handle: NightlyMetadata, model: str, nodes: Mapping[str, pipeline_pb2.PipelineNode], paths: Paths
) -> None:
    """Cancel the executions that a process, on any host, left unfinished when it died.

    ML Metadata is only queried for nights with a mark of a running node that nobody holds (see node_lock).

    :param nodes: the nodes of the model's pipeline by id, whose partial outputs are removed
    """
    for mark in (paths.nights / model).glob(f"*/*{RUNNING}"):
        with contextlib.suppress(BlockingIOError), current().locked(mark, wait=False):
            node_id = mark.stem
            keys = nodes[node_id].outputs.outputs if node_id in nodes else ()  # the model has dropped it since
            for run_id in _runs_in(handle, mark.parent):
                for execution in _unfinished(_executions(handle, run_id, f"{model}.{node_id}")):
                    _cancel(execution, paths.pipeline / model / node_id, keys)
                    handle.store.put_executions([execution])
                    log.info("closed %s of %s in ML Metadata, whose process had died", node_id, run_id)
            remove(mark)


def _runs_in(handle: NightlyMetadata, night_folder: Path) -> list[str]:
    """Return the ids of the runs whose night has this folder.

    The night's request may be gone, or of a newer version of this code that was rolled back since.
    """
    runs = (run.name for run in handle.store.get_contexts_by_type("pipeline_run"))
    return [run_id for run_id in runs if safe_name(run_id) == night_folder.name]


@contextlib.contextmanager
def node_lock(night_folder: Path, node_id: str) -> Iterator[None]:
    """Hold the node's lock while it runs, and have a mark in the night's folder, which a process that dies leaves."""
    mark = night_folder / f"{node_id}{RUNNING}"
    with current().locked(mark):
        mark.touch()
        publish(mark)
        yield
        remove(mark)


def _unfinished(executions: Iterable[Execution]) -> list[Execution]:
    return [e for e in executions if e.last_known_state in (Execution.NEW, Execution.RUNNING)]


def _cancel(execution: Execution, folder: Path, keys: Iterable[str]) -> None:
    """Mark a killed attempt as canceled, and remove its outputs of these keys from `folder`, the node's folder."""
    execution.last_known_state = Execution.CANCELED
    for key in keys:
        with contextlib.suppress(OSError):
            remove(folder / key / str(execution.id))


def _executions_of(handle: NightlyMetadata, node: pipeline_pb2.PipelineNode) -> list[Execution]:
    """Return the node's executions in its run."""
    names = {context.type.name: context.name.field_value.string_value for context in node.contexts.contexts}
    return _executions(handle, names["pipeline_run"], names["node"])


def _executions(handle: NightlyMetadata, run_id: str, node_name: str) -> list[Execution]:
    """Return a node's executions in a run.

    The query starts at the run, which has few executions; the pipeline and the node have those of all nights.

    :param node_name: the name of the node's context, MODEL.NODE_ID
    """
    run = handle.store.get_context_by_type_and_name("pipeline_run", run_id)
    node = handle.store.get_context_by_type_and_name("node", node_name)
    if run is None or node is None:
        return []
    executions = handle.store.get_executions_by_context(run.id)
    return [e for e in executions if any(c.id == node.id for c in handle.store.get_contexts_by_execution(e.id))]
