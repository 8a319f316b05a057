"""A version of an Iceberg table, by pyiceberg, which plans the files and reads them."""

import datetime as dt
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import (
    NoSuchNamespaceError,
    NoSuchTableError,
    NotInstalledError,
    RESTError,
    ValidationError,
)
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, GreaterThanOrEqual, LessThan
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from pyiceberg.manifest import ManifestContent
from pyiceberg.table import DataScan, FileScanTask, StaticTable
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Operation, Snapshot, ancestors_of

from nightly.compat.iceberg import batches
from nightly.records.connection import Connection
from nightly.records.source_config import TableSource
from nightly.sources.base import Context
from nightly.sources.cloud_credentials import TYPES, store_options
from nightly.sources.errors import ConnectionFailedError, RefusedError, SourceError
from nightly.sources.table.columns import as_schema, selected, time_column
from nightly.sources.table.failures import MissingFileError, explained, failure, plain
from nightly.sources.table.version import Change, DataFile
from nightly.sources.table.window import bounds

log = logging.getLogger(__name__)

ERRORS = (RESTError, ValidationError, ValueError, KeyError, NotImplementedError)  # of pyiceberg, besides Arrow's


def open_version(config: TableSource, context: Context) -> "IcebergVersion":
    """Return the version that the night reads. Raises SourceError."""
    path = context.address or config.path
    table = _load(path, context.connection)
    snapshot = _snapshot(table, config, context.window.as_of, path)
    return IcebergVersion(table, snapshot, config, context, path)


def _load(path: str, connection: Connection | None) -> IcebergTable:
    """Return the table at a path, or that of a name in the catalog. Raises SourceError."""
    if path.startswith(("az://", "abfs://", "abfss://", "wasb://")):
        raise RefusedError(f'{path}: Iceberg on Azure needs pyarrow 20, and TFX allows 18; read it by kind = "sql".')
    try:
        if "/" in path and "://" not in path:
            path = str(Path(path).expanduser().absolute())
        return _from_metadata(path, connection) if "/" in path else _from_catalog(path, connection)
    except SourceError:
        raise
    except (NoSuchTableError, NoSuchNamespaceError):
        raise RefusedError(f"the catalog has no Iceberg table {path!r}: check source.path.") from None
    except FileNotFoundError:
        raise RefusedError(
            f"{path} is not an Iceberg table, or is away: give a .metadata.json, or a folder with "
            "metadata/version-hint.text, or a connection to a catalog."
        ) from None
    except NotInstalledError as error:
        raise RefusedError(f"{path}: {plain(error)}.") from None
    except Exception as error:  # each catalog has its own library, and errors of its own
        cause = failure(path, error)
        if type(cause) is not ConnectionFailedError:
            raise cause from None
        raise SourceError(
            f"the Iceberg table {path} cannot be opened ({type(error).__name__}): check source.path, and the catalog "
            "or object store of source.connection."
        ) from None


def _from_metadata(path: str, connection: Connection | None) -> StaticTable:
    properties = store_options(connection, path.partition("://")[0]).for_iceberg() if "://" in path else {}
    return StaticTable.from_metadata(path, properties)


def _from_catalog(name: str, connection: Connection | None) -> IcebergTable:
    if connection is None:
        return load_catalog().load_table(name)  # that of pyiceberg's own configuration
    properties = catalog_properties(connection)
    return load_catalog(properties.pop("catalog_name", "default"), **properties).load_table(name)


def catalog_properties(connection: Connection) -> dict[str, str]:
    """Return pyiceberg's properties of a catalog: those in the extra, and host, login and password for a REST catalog.

    `catalog_name` in the extra is the catalog's name, which SQL catalogs share a database by.

    Raises RefusedError for a connection to an object store, which names no catalog.
    """
    if connection.conn_type in TYPES and "type" not in connection.extra:
        raise RefusedError(
            f"source.connection is of type {connection.conn_type}, and source.path names a table of a catalog: "
            "give the path of a .metadata.json, or a connection whose extra has the catalog's `type` and properties."
        )
    properties = {name: str(value) for name, value in connection.extra.items() if value is not None}
    if connection.host and "uri" not in properties:
        host = connection.host if "://" in connection.host else f"{connection.database or 'https'}://{connection.host}"
        properties["uri"] = host + (f":{connection.port}" if connection.port else "")
    secret = connection.password.get_secret_value()
    if secret and "credential" not in properties and "token" not in properties:
        properties["credential"] = f"{connection.login}:{secret}" if connection.login else secret
    return {"type": "rest"} | properties


def _snapshot(table: IcebergTable, config: TableSource, as_of: dt.datetime, place: str) -> Snapshot | None:
    """Return the table's snapshot to read; None if the table is empty. Raises RefusedError."""
    if config.ref:
        snapshot = table.snapshot_by_name(config.ref)
        if snapshot is None:
            names = ", ".join(sorted(table.metadata.refs)) or "none"
            raise RefusedError(f"{place} has no branch or tag {config.ref!r}, which source.ref names; it has {names}.")
        return snapshot
    if config.version is not None:
        snapshot = table.snapshot_by_id(config.version)
        if snapshot is None:
            raise RefusedError(f"{place} has no snapshot {config.version}, which source.version names, or it expired.")
        return snapshot
    if not config.time_travel:
        return table.current_snapshot()
    entries = table.history()
    current = [entry for entry in entries if _moment(entry.timestamp_ms) <= as_of]
    kept = [entry for entry in entries if table.snapshot_by_id(entry.snapshot_id)]
    if current and (snapshot := table.snapshot_by_id(current[-1].snapshot_id)):
        return snapshot
    advice = "set source.time_travel = false to read the newest version."
    if not kept:
        raise RefusedError(f"{place} has no rows yet: it has no snapshot as of {_shown(as_of)}; {advice}")
    first = next(snapshot for snapshot in table.snapshots() if snapshot.snapshot_id == kept[0].snapshot_id)
    expired = first.parent_snapshot_id or (first.sequence_number or 0) > 1
    since = _shown(_moment(kept[0].timestamp_ms))
    what = f"can be read back to {since}: its older snapshots expired" if expired else f"begins at {since}"
    raise RefusedError(f"{place} {what}, and the night is as of {_shown(as_of)}; {advice}")


class IcebergVersion:
    """A version of an Iceberg table: a snapshot, in Iceberg's words."""

    def __init__(
        self, table: IcebergTable, snapshot: Snapshot | None, config: TableSource, context: Context, place: str
    ) -> None:
        self.table, self.snapshot, self.context, self.place = table, snapshot, context, place
        self.id = str(snapshot.snapshot_id) if snapshot else ""
        whole = table.scan(snapshot_id=snapshot.snapshot_id) if snapshot else table.scan()
        projection = whole.projection()
        full = schema_to_pyarrow(projection, include_field_ids=False)
        self.schema = selected(full, config.columns, place)
        self.time_column = time_column(self.schema, context, place)
        self.projection = projection.select(*self.schema.names)
        self.schema = pa.schema([self.schema.field(field.name) for field in self.projection.fields])
        self.reader = ArrowScan(table.metadata, table.io, self.projection, AlwaysTrue())
        self._schema_id = hashlib.sha256(f"{self.schema} {self.projection}".encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return (
            f"snapshot {self.id} of {_shown(_moment(self.snapshot.timestamp_ms))}" if self.snapshot else "no snapshot"
        )

    def files(self) -> tuple[list[DataFile], int]:
        if self.snapshot is None:
            return [], 0
        with explained(self.place, *ERRORS):
            tasks = self._tasks(self.snapshot)
            order = self._sequence_numbers({task.file.file_path for task in tasks})
        tasks.sort(key=lambda task: (order.get(task.file.file_path, 0), task.file.file_path))
        total = (self.snapshot.summary or {}).get("total-data-files") or len(tasks)
        return [
            DataFile(task.file.file_path, self._fingerprint(task), task.file.file_size_in_bytes, task) for task in tasks
        ], int(total)

    def _tasks(self, snapshot: Snapshot) -> list[FileScanTask]:
        """Return the files whose partition and statistics allow rows of the window."""
        scan: DataScan = self.table.scan(row_filter=self._filter(snapshot), snapshot_id=snapshot.snapshot_id)
        try:
            return list(scan.plan_files())
        except (ValueError, NotImplementedError) as error:
            if "equality deletes" in str(error):
                raise RefusedError(
                    f"{self.place} has equality deletes, which pyiceberg cannot read: compact the table first."
                ) from None
            raise

    def _filter(self, snapshot: Snapshot) -> BooleanExpression:
        limits = bounds(self.schema.field(self.time_column).type, self.context) if self.time_column else None
        names = self.table.scan(snapshot_id=snapshot.snapshot_id).projection().column_names
        if limits is None or self.time_column not in names:
            return AlwaysTrue()
        return And(GreaterThanOrEqual(self.time_column, limits[0]), LessThan(self.time_column, limits[1]))

    def _sequence_numbers(self, paths: set[str]) -> dict[str, int]:
        """Return a data file's path -> the number of the commit that added its rows."""
        numbers: dict[str, int] = {}
        for manifest in self.snapshot.manifests(self.table.io) if self.snapshot else ():
            if manifest.content == ManifestContent.DATA and not paths <= numbers.keys():
                for entry in manifest.fetch_manifest_entry(self.table.io):
                    numbers[entry.data_file.file_path] = entry.sequence_number or 0
        return numbers

    def _fingerprint(self, task: FileScanTask) -> str:
        deletes = sorted(f"{file.file_path} {getattr(file, 'content_offset', '')}" for file in task.delete_files)
        deleted = f" without {hashlib.sha256(' '.join(deletes).encode()).hexdigest()[:16]}" if deletes else ""
        return f"columns {self._schema_id}{deleted}"

    def read(self, file: DataFile) -> Iterator[pa.RecordBatch]:
        try:
            with explained(file.name, *ERRORS):
                for batch in batches(self.reader, file.handle):
                    yield as_schema(batch, self.schema)
        except MissingFileError:
            raise RefusedError(
                f"{self.place}: {file.name} of {self} is gone: its snapshot expired, or the file was removed; "
                "read a later night, or restore it."
            ) from None

    def changes_since(self, known: str) -> list[Change]:
        if self.snapshot is None or not known.isdecimal():
            return []
        between: list[Snapshot] = []
        for snapshot in ancestors_of(self.snapshot, self.table.metadata):
            if str(snapshot.snapshot_id) == known:
                break
            between.append(snapshot)
        else:
            log.info("%s: what has changed since snapshot %s cannot be told", self.place, known)
            return []
        with explained(self.place, *ERRORS):
            earlier = {self._identity(task) for task in self._tasks(snapshot)}
            replaced = earlier - {self._identity(task) for task in self._tasks(self.snapshot)}
        operations = [s.summary.operation for s in between if s.summary and s.summary.operation != Operation.APPEND]
        if not replaced or not operations:
            return []
        names = ", ".join(dict.fromkeys(operation.value for operation in reversed(operations)))
        return [Change(names, len(replaced), all(operation == Operation.REPLACE for operation in operations))]

    def _identity(self, task: FileScanTask) -> tuple[str, str]:
        return task.file.file_path, self._fingerprint(task)


def _moment(milliseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)


def _shown(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
