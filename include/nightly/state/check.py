"""Check a bucket: whether all that its manifests and lists say is true."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256 as hashed
from itertools import chain
from pathlib import Path

from nightly.state.errors import DamagedStateError
from nightly.state.manifests import Manifest, blob_key
from nightly.state.objects import Objects
from nightly.state.sweep import CONNECTIONS, probe_lists


@dataclass(frozen=True)
class Checked:
    """What a check read.

    :ivar unused: blobs that no manifest names, for the next sweep
    """

    contents: int
    blobs: int
    bytes: int
    records: int
    unused: int
    problems: list[str]


def check(objects: Objects, *, content: bool) -> Checked:
    """Compare the bucket's objects with its manifests and lists.

    :param content: download every blob and hash it, too; otherwise compare sizes
    """
    problems: list[str] = []
    try:
        probe_lists(objects)
    except DamagedStateError as error:
        problems.append(str(error))
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        contents, damaged = _manifests(objects, pool)
        listed = {entry.key: entry for entry in objects.list("blobs")}
        needed = {blob: size for manifest in contents for blob, size in manifest.blobs.items()}
        names = {blob: manifest.name for manifest in contents for blob in manifest.blobs}

        def blob(sha256: str) -> list[str]:
            problem = _blob_problem(objects, sha256, needed[sha256], content)
            return [f"{names[sha256]}: {problem}"] if problem else []

        problems += damaged
        problems += chain.from_iterable(map(_inline_problems, contents))
        problems += chain.from_iterable(pool.map(blob, needed))
    missing = {blob_key(sha256) for sha256 in needed} - listed.keys()
    problems += [f"{key} is there, but the list of blobs lacks it" for key in sorted(missing) if objects.head(key)]
    unused = listed.keys() - {blob_key(sha256) for sha256 in needed}
    records = len(objects.list("records"))
    return Checked(len(contents), len(needed), sum(needed.values()), records, len(unused), problems)


def _manifests(objects: Objects, pool: ThreadPoolExecutor) -> tuple[list[Manifest], list[str]]:
    keys = [entry.key for entry in objects.list("manifests") if entry.key.endswith(".json")]
    contents, problems = [], []
    for key, stored in zip(keys, pool.map(objects.get, keys), strict=True):
        try:
            if stored is not None:
                contents.append(Manifest.parse(stored.data, key))
            elif any(entry.key == key for entry in objects.list("manifests")):  # else it was removed meanwhile
                problems.append(f"{key} is in the list of manifests, but is not there")
        except DamagedStateError as error:
            problems.append(str(error))
    return contents, problems


def _blob_problem(objects: Objects, sha256: str, size: int, content: bool) -> str:
    entry = objects.head(blob_key(sha256))
    if entry is None:
        return f"its blob {sha256} is missing"
    if entry.bytes != size:
        return f"its blob {sha256} has {entry.bytes:,} bytes instead of {size:,}"
    if content:
        with tempfile.TemporaryDirectory(prefix="nightly-check-") as folder:
            if objects.download(blob_key(sha256), Path(folder) / "blob") != sha256:
                return f"its blob {sha256} has other bytes"
    return ""


def _inline_problems(manifest: Manifest) -> Iterator[str]:
    for name, file in manifest.files.items():
        if file.text is not None and hashed(file.text.encode()).hexdigest() != file.sha256:
            yield f"{manifest.name}: {name} has other bytes in its manifest"
