"""Find a data set's files: a path, a glob, a folder, a snapshot, or a pattern of Beam's file systems (gs://…)."""

import glob
from pathlib import Path
from typing import IO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from nightly.data.errors import DataError
from nightly.io.hints import did_you_mean
from nightly.records.snapshot import SnapshotManifest
from nightly.records.source_config import FileFormat
from nightly.snapshots.errors import SnapshotError
from nightly.snapshots.store import SnapshotStore
from nightly.sources.files.formats import READABLE, compression_of, kind_of
from nightly.state import current

SNAPSHOT = "snapshot:"
LATEST = "latest"
TEXT = ("csv", "json", "avro")  # the kinds that are read as text without types
PARQUET_MAGIC, GZIP_MAGIC = b"PAR1", b"\x1f\x8b"


def find_files(data: str | Path) -> tuple[FileFormat, list[str]]:
    """Return the kind of a data set, and its files sorted by name. Raises DataError.

    :param data: a file, a glob, or a folder of one kind of file (names that begin with . or _ are left out);
        `snapshot:MODEL/ID`, with an id, a prefix of an id, or `latest`; or a pattern below gs:// and the like
    """
    location = str(data)
    if location.startswith(SNAPSHOT):
        files = _snapshot(location.removeprefix(SNAPSHOT))
    elif is_remote(location):
        files = _remote(location)
    else:
        files = _local(location)
    by_kind = {file: kind_of(file) for file in files}
    readable = [file for file, kind in by_kind.items() if kind]
    if not readable:
        shown = ", ".join(Path(file).name for file in files[:5])
        raise DataError(f"{location}: not of a kind that can be read by its name ({READABLE}): {shown}")
    kinds = sorted({by_kind[file] for file in readable})
    if len(kinds) > 1:
        kind_names = ", ".join(kinds)
        raise DataError(f"{location} has files of several kinds ({kind_names}): name one kind, e.g. '*.{kinds[0]}'")
    if is_remote(location) and kinds[0] in ("json", "avro"):
        raise DataError(f"{location}: {kinds[0]} is read from local files only; copy them into a folder")
    packed = {compression_of(file) for file in readable} & {".zst", ".zip"}
    if kinds[0] == "tfrecord" and packed:
        raise DataError(f"{location}: TensorFlow does not read TFRecord in {min(packed)}; unpack it, or use gzip")
    for file in readable[: 1 if is_remote(location) else None]:  # for remote files each check is a request
        _check_content(file, kinds[0])
    return kinds[0], sorted(readable)


def find_files_offline(location: str) -> tuple[FileFormat, list[str]]:
    """Do the same as `find_files`, but return a remote pattern itself in place of its files, without any request."""
    if not is_remote(location):
        return find_files(location)
    kind = kind_of(location)
    if kind is None:
        raise DataError(f"{location}: give a pattern with the files' suffix ({READABLE})")
    return kind, [location]


def is_remote(location: str) -> bool:
    """Return whether the location is a URL of one of Beam's file systems."""
    return "://" in location


def open_file(file: str) -> IO[bytes]:
    """Open a local file, or a file in Beam's file systems, without decompression."""
    if is_remote(file):
        return FileSystems.open(file, compression_type=CompressionTypes.UNCOMPRESSED)
    return Path(file).open("rb")


def is_gzip(file: str) -> bool:
    with open_file(file) as body:
        return body.read(2) == GZIP_MAGIC


def _snapshot(reference: str) -> list[str]:
    """Return the files of MODEL/ID, verified."""
    model, slash, snapshot = reference.partition("/")
    if not (model and slash and snapshot):
        raise DataError(f"{SNAPSHOT}{reference}: give {SNAPSHOT}MODEL/ID, or {SNAPSHOT}MODEL/{LATEST}")
    with current().session(model) as paths:
        return _files_of(paths.snapshots, model, snapshot)


def _files_of(root: Path, model: str, snapshot: str) -> list[str]:
    models = [path.name for path in root.glob("[!.]*/")]
    if model not in models:
        hint = did_you_mean(model, models) if models else "; no model has any"
        raise DataError(f"{root} has no snapshot of {model!r}{hint}")
    store = SnapshotStore(root, model)
    try:
        manifests = store.manifests() if snapshot == LATEST else [store.get(snapshot)]
        manifests = [store.verify(manifest.snapshot_id) for manifest in manifests[-1:]]
    except SnapshotError as error:
        raise DataError(str(error)) from None
    if not manifests:
        raise DataError(f"{store.folder} has no snapshot yet")
    folder = store.path(manifests[-1].snapshot_id)
    return [str(folder / file.name) for file in manifests[-1].files]


def _local(location: str) -> list[str]:
    path = Path(location).expanduser()
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path))]
        if (path / SnapshotManifest.FILE).exists():
            files = sorted(path.glob("rows-*.parquet"))
        if not files:
            raise DataError(f"the folder {path} holds no file")
        return [str(file) for file in files]
    if path.exists():
        return [str(path)]
    matches = [file for file in glob.glob(str(path), recursive=True) if Path(file).is_file()]  # noqa: PTH207
    if matches:
        return matches
    if glob.has_magic(location):
        raise DataError(
            f"no file matches {location}; quote it, so that the shell does not expand it, and check the path"
        )
    siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings) if siblings else f"; there is no folder {path.parent}"
    raise DataError(f"{path} does not exist" + (hint if len(siblings) < 20 or "did you mean" in hint else ""))


def _remote(location: str) -> list[str]:
    try:
        (match,) = FileSystems.match([location])
        if not match.metadata_list:
            (match,) = FileSystems.match([location.rstrip("/") + "/**"])
    except (BeamIOError, ValueError) as error:
        raise DataError(f"{location} cannot be listed: {error}") from error
    files = [
        file.path for file in match.metadata_list if file.size_in_bytes and not _hidden(Path(Path(file.path).name))
    ]
    if not files:
        raise DataError(f"no file is at {location}")
    return files


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _check_content(file: str, kind: FileFormat) -> None:
    """Raise DataError if the file's content does not match its name, which is most often a mistake."""
    try:
        with open_file(file) as body:
            start = body.read(4)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    if not start:
        raise DataError(f"{file} is empty; data without rows still has a header, or is left out")
    if (start == PARQUET_MAGIC) != (kind == "parquet"):
        problem = "is named as Parquet and is not" if kind == "parquet" else f"is named as {kind}, and is Parquet"
        raise DataError(f"{file} {problem}: rename it, or write it again")
    if kind == "csv" and start[:2] == GZIP_MAGIC and not file.lower().endswith(".gz"):
        raise DataError(f"{file} is compressed by gzip: rename it to {Path(file).name}.gz")
