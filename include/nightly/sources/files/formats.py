"""The formats of files, by their names: what they hold, and how they are compressed."""

import re
import zipfile
from typing import Literal

from nightly.records.source_config import FileFormat

SUFFIXES: dict[FileFormat, tuple[str, ...]] = {
    "csv": (".csv",),
    "json": (".jsonl", ".ndjson", ".json"),
    "avro": (".avro",),
    "parquet": (".parquet",),
}
TFRECORD = re.compile(r"tfrecord(-\d+-of-\d+)?$")  # TFX names files …_tfrecord-00000-of-00001.gz
COMPRESSIONS = (".gz", ".zst", ".zip")
IN_ARCHIVES = ".csv, .jsonl, .ndjson, .json, .avro or .tfrecord"
READABLE = f"{IN_ARCHIVES}, each also with .gz, .zst or .zip; .parquet"


def kind_of(name: str) -> FileFormat | None:
    """Return the kind of a file by its name, or None. A .zip without another suffix is CSV, unless its members tell."""
    compression = compression_of(name)
    plain = name.lower().removesuffix(compression)
    if TFRECORD.search(plain):
        return "tfrecord"
    for kind, suffixes in SUFFIXES.items():
        if plain.endswith(suffixes):
            return None if kind == "parquet" and compression else kind  # Parquet compresses its columns itself
    return "csv" if compression == ".zip" else None


def compression_of(name: str) -> str:
    """Return .gz, .zst or .zip, or "" for a file that is not compressed by its name."""
    return next((suffix for suffix in COMPRESSIONS if name.lower().endswith(suffix)), "")


def suffix_of(name: str, kind: FileFormat | Literal[""] = "") -> str:
    """Return the suffix by which readers tell a file's kind, e.g. .csv.gz.

    :param kind: of the file, if its name does not tell
    """
    compression = compression_of(name)
    if not kind and compression == ".zip":
        return compression
    return f".{kind or kind_of(name)}{compression}"


def is_hidden(path: str) -> bool:
    """Return whether a name in a path begins with `.` or `_`, as in Spark: such files are not read."""
    return any(name.startswith((".", "_")) for name in path.strip("/").split("/"))


def members_of(archive: zipfile.ZipFile, kind: FileFormat | Literal[""] = "") -> dict[str, FileFormat]:
    """Return the readable files in an archive -> their kinds, sorted by name, without those that macOS adds.

    :param kind: of all files that are not hidden, if their names do not tell
    """
    names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    names = [name for name in names if not (compression_of(name) or name.startswith("__MACOSX/"))]
    if kind:
        return {name: kind for name in names if not is_hidden(name)}
    kinds = {name: kind_of(name) for name in names}
    return {name: kind for name, kind in kinds.items() if kind and kind != "parquet"}
