"""A version of a Delta table, by deltalake (delta-rs).

deltalake reads the log: versions, schema, files, statistics, partition values and deletion vectors. Its scan cannot be
limited to one data file, so a file's Parquet is read by Arrow here, through deltalake's file system.
"""

import bisect
import hashlib
import json
import logging
import re
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler

from nightly.records.source_config import TableSource
from nightly.sources.base import Context
from nightly.sources.cloud_credentials import store_options
from nightly.sources.errors import RefusedError, SourceError
from nightly.sources.table.columns import as_schema, selected, time_column
from nightly.sources.table.failures import MissingFileError, explained, failure
from nightly.sources.table.version import Change, DataFile
from nightly.sources.table.window import bounds

log = logging.getLogger(__name__)

BATCH_ROWS = 16_384
FIELD_ID = b"PARQUET:field_id"
# What a reader must honour, and this module does. deltalake itself refuses what it does not know.
READER_FEATURES = {
    *("columnMapping", "deletionVectors", "timestampNtz", "typeWidening", "typeWidening-preview"),
    *("v2Checkpoint", "vacuumProtocolCheck"),
}


def open_version(config: TableSource, context: Context) -> "DeltaVersion":
    """Return the version that the night reads. Raises SourceError."""
    path = context.address or config.path
    scheme = path.partition("://")[0] if "://" in path else ""
    if not scheme:
        path = str(Path(path).expanduser().absolute())
    options = store_options(context.connection, scheme).for_delta() if scheme else {}
    try:
        table = DeltaTable(path, storage_options=options)
    except (DeltaError, OSError, ValueError) as error:
        raise _unopened(path, error) from None
    with explained(path, DeltaError):
        history = History(table, pa_fs.PyFileSystem(DeltaStorageHandler(table.table_uri, options)), path)
        number = table.version()
        if config.version is not None:
            number = history.existing(config.version)
        elif config.time_travel:
            number = history.as_of(context.window.as_of)
        table.load_as_version(number)
    return DeltaVersion(table, history, config, context, options)


class History:
    """The versions of a table that can be read, from the files of its log.

    :param table: in its newest version
    :param place: the table's address
    """

    def __init__(self, table: DeltaTable, files: pa_fs.FileSystem, place: str) -> None:
        self.files, self.place = files, place
        entries = files.get_file_info(pa_fs.FileSelector("_delta_log"))
        written = {int(e.base_name[:20]): e.mtime for e in entries if re.fullmatch(r"\d{20}\.json", e.base_name)}
        matches = [re.match(r"(\d{20})\.checkpoint\.", e.base_name) for e in entries]
        checkpoints = [int(match[1]) for match in matches if match]
        # A version is built from the checkpoint before it, or from the beginning.
        self.first = 0 if 0 in written else min(checkpoints, default=table.version())
        self.versions = sorted(version for version in written if version >= self.first) or [table.version()]
        # A clock that was set back does not reorder versions.
        self._written = dict(zip(sorted(written), accumulate((written[v] for v in sorted(written)), max), strict=True))
        self._in_commit = "inCommitTimestamp" in (table.protocol().writer_features or [])

    def committed(self, version: int) -> Any:
        """Return when a version was committed: the time of its file, or the one in it if the table has the feature."""
        if self._in_commit:
            for action in self.actions(version)[:1]:
                if stamp := action.get("commitInfo", {}).get("inCommitTimestamp"):
                    return pa.scalar(stamp, pa.timestamp("ms", "UTC")).as_py()
        return self._written[version]

    def as_of(self, moment: Any) -> int:
        """Return the version that was current at `moment`. Raises RefusedError if none was, or it is gone."""
        position = bisect.bisect_right(self.versions, moment, key=self.committed)
        if position:
            return self.versions[position - 1]
        first = f"version {self.first} of {_shown(self.committed(self.versions[0]))}"
        what = f"begins with {first}" if self.first == 0 else f"can be read back to {first}: its older log was removed"
        raise RefusedError(
            f"{self.place} {what}, and the night is as of {_shown(moment)}; "
            "set source.time_travel = false to read the newest version."
        )

    def existing(self, version: int) -> int:
        if version not in self.versions:
            raise RefusedError(
                f"{self.place} has no version {version}, which source.version names: "
                f"it can be read from version {self.versions[0]} to {self.versions[-1]}."
            )
        return version

    def actions(self, version: int) -> list[dict[str, Any]]:
        """Return the actions of a version's commit. Raises FileNotFoundError if its file was removed."""
        with self.files.open_input_file(f"_delta_log/{version:020}.json") as file:
            return [json.loads(line) for line in file.read().splitlines() if line.strip()]


class DeltaVersion:
    """A version of a Delta table.

    :param table: in this version
    """

    def __init__(
        self, table: DeltaTable, history: History, config: TableSource, context: Context, options: dict[str, str]
    ) -> None:
        self.table, self.history, self.context, self.options = table, history, context, options
        self.place, self.id = history.place, str(table.version())
        features = set(table.protocol().reader_features or [])
        if unknown := sorted(features - READER_FEATURES):
            raise RefusedError(f"{self.place} uses {', '.join(unknown)}, which cannot be read; rewrite it without.")
        full = pa.schema(table.schema().to_arrow())
        self.schema = selected(full, config.columns, self.place)
        self.time_column = time_column(self.schema, context, self.place)
        fields = {field["name"]: field["metadata"] for field in json.loads(table.schema().to_json())["fields"]}
        self.mapping = {name: fields[name] for name in self.schema.names}
        self.by_id = table.metadata().configuration.get("delta.columnMapping.mode") == "id"
        self._schema_id = _digest(f"{self.schema} {self.mapping}")

    def __str__(self) -> str:
        return f"version {self.id} of {_shown(self.history.committed(int(self.id)))}"

    def files(self) -> tuple[list[DataFile], int]:
        with explained(self.place, DeltaError):
            actions = pa.table(self.table.get_add_actions())
            if "partition" not in actions.schema.names:
                actions = actions.append_column("partition", pa.nulls(len(actions)))
            kept = set(self._uris(self.table))
            root = _root(self.table.table_uri)
            vectors = self._deletion_vectors()
            files = []
            for action in actions.select(["path", "size_bytes", "modification_time", "partition"]).to_pylist():
                path = unquote(action["path"])  # the log's paths are encoded as in URLs
                if root + path in kept:
                    file = self._file(root, path, action["size_bytes"], action["partition"] or {}, vectors.get(path))
                    files.append((action["modification_time"], path, file))
        if len(files) < len(kept):
            raise RefusedError(f"{self.place} names data files outside its folder, as a shallow clone does; copy it.")
        files.sort(key=lambda file: file[:2])
        return [file for _, _, file in files], len(actions)

    def _file(self, root: str, path: str, size: int, partition: dict[str, Any], vector: np.ndarray | None) -> DataFile:
        deleted = "" if vector is None else f" without {hashlib.sha256(np.packbits(vector)).hexdigest()[:16]}"
        return DataFile(root + path, f"columns {self._schema_id}{deleted}", size, (path, partition, vector))

    def _uris(self, table: DeltaTable) -> list[str]:
        """Return the files whose partition values and statistics allow rows of the window."""
        limits = bounds(self.schema.field(self.time_column).type, self.context) if self.time_column else None
        if limits is None or self.time_column not in pa.schema(table.schema().to_arrow()).names:
            return table.file_uris()
        filters = [(self.time_column, ">=", limits[0]), (self.time_column, "<", limits[1])]
        return table.file_uris(file_pruning_predicate=filters)

    def _deletion_vectors(self) -> dict[str, np.ndarray]:
        """Return a file's path -> which of its rows are kept, for files with deleted rows."""
        if "deletionVectors" not in (self.table.protocol().reader_features or []):
            return {}
        root = self.table.table_uri.rstrip("/") + "/"
        return {
            unquote(row.removeprefix(root)): values.values.to_numpy(zero_copy_only=False)
            for batch in pa.RecordBatchReader.from_stream(self.table.deletion_vectors())
            for row, values in zip(batch.column("filepath").to_pylist(), batch.column("selection_vector"), strict=True)
        }

    def read(self, file: DataFile) -> Iterator[pa.RecordBatch]:
        path, partition, vector = file.handle
        try:
            with explained(file.name, DeltaError), self.history.files.open_input_file(path) as opened:
                # Spark's old times have nanoseconds of a narrow range.
                parquet = pq.ParquetFile(opened, coerce_int96_timestamp_unit="us")
                names = self._names(parquet.schema_arrow)
                start = 0
                for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=[n for n in names.values() if n]):
                    rows = batch.num_rows
                    arrays = [
                        batch.column(names[field.name])
                        if names[field.name]
                        else pa.repeat(pa.scalar(partition.get(field.name), field.type), rows)
                        for field in self.schema
                    ]
                    typed = as_schema(pa.RecordBatch.from_arrays(arrays, self.schema.names), self.schema)
                    if vector is not None:  # which may end before the file, whose further rows are kept
                        keep = np.ones(rows, bool)
                        known = vector[start : start + rows]
                        keep[: len(known)] = known
                        typed = typed.filter(pa.array(keep))
                    start += rows
                    yield typed
        except MissingFileError:
            raise self._gone(file.name) from None

    def _names(self, physical: pa.Schema) -> dict[str, str | None]:
        """Return the table's column -> its name in a data file, None if the file lacks it."""
        by_id = {int(field.metadata[FIELD_ID]): field.name for field in physical if FIELD_ID in (field.metadata or {})}
        names: dict[str, str | None] = {}
        for column, metadata in self.mapping.items():
            name = metadata.get("delta.columnMapping.physicalName", column)
            if self.by_id:
                name = by_id.get(metadata.get("delta.columnMapping.id"), "")
            names[column] = name if name in physical.names else None
        return names

    def changes_since(self, known: str) -> list[Change]:
        if not known.isdecimal() or int(known) >= int(self.id):
            return []  # a backfill reads an older version than the last night
        try:
            earlier = DeltaTable(self.table.table_uri, version=int(known), storage_options=self.options)
            read, root = set(self._uris(earlier)), _root(self.table.table_uri)
            counts: dict[tuple[str, bool], int] = {}
            for version in range(int(known) + 1, int(self.id) + 1):
                actions = self.history.actions(version)
                operation = next((a["commitInfo"].get("operation", "?") for a in actions if "commitInfo" in a), "?")
                for remove in (action["remove"] for action in actions if "remove" in action):
                    if root + unquote(remove["path"]) in read:
                        key = (operation, not remove.get("dataChange", True))
                        counts[key] = counts.get(key, 0) + 1
        except (DeltaError, OSError, pa.ArrowException) as error:
            log.info(
                "%s: what has changed since version %s cannot be told: %s", self.place, known, type(error).__name__
            )
            return []
        return [Change(operation, files, same_rows) for (operation, same_rows), files in sorted(counts.items())]

    def _gone(self, name: str) -> SourceError:
        """Return the error for a data file that the log names and that is not there."""
        versions = [version for version in self.history.versions if version > int(self.id)]

        def complete(version: int) -> bool:
            table = DeltaTable(self.table.table_uri, version=version, storage_options=self.options)
            root = _root(table.table_uri)
            infos = self.history.files.get_file_info([uri.removeprefix(root) for uri in self._uris(table)])
            return all(info.type != pa_fs.FileType.NotFound for info in infos)

        # VACUUM removes the files of old versions, so from some version on all are there.
        with explained(self.place, DeltaError):
            position = bisect.bisect_left(versions, True, key=complete)
        if position < len(versions):
            first = versions[position]
            return RefusedError(
                f"{self.place}: {name} of version {self.id} is gone, as VACUUM removes files of old versions. "
                f"The window can be read as of {_shown(self.history.committed(first))} (version {first}) or later."
            )
        return RefusedError(f"{self.place}: its log names {name}, which is gone: restore it, or repair the table.")


def _unopened(path: str, error: Exception) -> SourceError:
    """Return why a table cannot be opened."""
    if feature := re.search(r"Unsupported: (?:Feature ')?([^'\n]+)", str(error)):
        return RefusedError(f"{path} uses {feature[1]}, which cannot be read; rewrite it without.")
    cause = failure(path, error)
    if isinstance(error, TableNotFoundError) and not isinstance(cause, RefusedError):
        return RefusedError(f"{path} is not a Delta table, or is away: it has no _delta_log; check source.path.")
    return cause


def _root(uri: str) -> str:
    """Return what `file_uris` begin with: a local folder without a scheme, or a URL."""
    uri = uri.rstrip("/") + "/"
    return unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shown(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
