"""Manifests: which files a content has, in one object. Small JSON files are in it, all others are blobs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nightly.io.files import NotPlainFileError, hash_files
from nightly.state.errors import DamagedStateError, StateError

INLINE_BYTES = 1 << 16  # of a file
WHOLE = "."  # the path in the content, if the content is one file


@dataclass(frozen=True)
class File:
    """A file of a content.

    :ivar text: the content of a small JSON file; None: it is a blob
    """

    sha256: str
    bytes: int
    text: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A content: its name, its files by their path in it, and its empty folders."""

    name: str
    files: Mapping[str, File]
    folders: list[str] = field(default_factory=list)

    @property
    def blobs(self) -> dict[str, int]:
        """SHA-256 -> bytes of the files that are blobs."""
        return {file.sha256: file.bytes for file in self.files.values() if file.text is None}

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.dump()).hexdigest()

    def dump(self) -> bytes:
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def parse(cls, data: bytes, key: str) -> "Manifest":
        """Parse the manifest in the object `key`. Raises DamagedStateError."""
        try:
            value = json.loads(data)
            files = {name: File(**each) for name, each in value["files"].items()}
            manifest = cls(value["name"], files, value["folders"])
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DamagedStateError(f"{key} is not a manifest; remove it, and run what it is of again.") from None
        if key != manifest_key(manifest.name) or any(_is_outside(name) for name in [*files, *manifest.folders]):
            raise DamagedStateError(f"{key} is the manifest of something else; remove it.")
        return manifest

    @classmethod
    def of(cls, name: str, path: Path) -> "Manifest":
        """Return the manifest of the folder or file at `path`. Raises FileNotFoundError, and StateError for a link."""
        try:
            hashes = hash_files(path)
        except NotPlainFileError as error:
            raise StateError(f"{name} cannot be published: {error}.") from None
        if not hashes and not path.exists():
            raise FileNotFoundError(2, "No such file or directory", str(path))
        files = {each: _file(path / each, sha256) for each, sha256 in hashes.items()}
        empty = [each for each in path.rglob("*") if each.is_dir() and not any(each.iterdir())] if path.is_dir() else []
        return cls(name, files, sorted(each.relative_to(path).as_posix() for each in empty))


def manifest_key(name: str) -> str:
    return f"manifests/{name}.json"


def name_of_key(key: str) -> str:
    return key.removeprefix("manifests/").removesuffix(".json")


def blob_key(sha256: str) -> str:
    return f"blobs/{sha256}"


def _file(path: Path, sha256: str) -> File:
    size = path.stat().st_size
    if path.suffix != ".json" or size > INLINE_BYTES:
        return File(sha256, size)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise StateError(f"{path} changed while it was published; publish what is complete only.")
    try:
        return File(sha256, size, data.decode())
    except UnicodeDecodeError:
        return File(sha256, size)


def _is_outside(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/")
