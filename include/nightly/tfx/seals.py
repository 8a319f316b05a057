"""Seals: the hashes of an artifact's files, stored by the node that wrote it and checked by every node that reads it.

A seal is a property of the artifact in ML Metadata, so a reused artifact keeps it. An artifact from another runner, or
from an older version of this project, has none and is not checked.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tfx import types

from nightly.io.errors import DamageError
from nightly.io.files import differences, hash_files
from nightly.records.base import Contract
from nightly.state import current, fetch
from nightly.state.errors import DamagedStateError
from nightly.tfx.metadata import Artifact, keep, kept

log = logging.getLogger("nightly")

PROPERTY = "nightly_seal"  # of an artifact: Seal

Artifacts = Mapping[str, Sequence[types.Artifact]]
Contents = dict[str, dict[str, str]]  # an artifact's URI -> path inside -> sha256


class Seal(Contract):
    """The node and run that wrote an artifact, and the sha256 of each file by its path in it."""

    node: str
    run_id: str
    files: dict[str, str]


class DamagedArtifactError(DamageError):
    """An artifact's files differ from those that its node wrote. The message names them and the task to clear."""


def seal(artifacts: Iterable[Artifact], node: str, run_id: str) -> None:
    """Seal `artifacts`, which `node` has just written. Artifacts of the same URI are hashed once."""
    contents: Contents = {}
    for artifact in artifacts:
        if artifact.uri not in contents:
            contents[artifact.uri] = hash_files(Path(artifact.uri))
        keep(artifact, PROPERTY, Seal(node=node, run_id=run_id, files=contents[artifact.uri]))


def check(artifacts: Artifacts) -> Contents:
    """Fetch `artifacts`, check their files against their seals, and return the files' hashes.

    Raises DamagedArtifactError.

    :param artifacts: by input name
    """
    contents, damaged = {}, []
    for name, group in artifacts.items():
        for artifact in group:
            sealed = seal_of(artifact)
            try:
                contents[artifact.uri] = fetched(Path(artifact.uri), sealed)
                changes = differences(sealed.files, contents[artifact.uri]) if sealed else {}
            except DamagedStateError as error:
                if sealed is None:
                    raise
                changes = {"": str(error)}
            if sealed and changes:
                damaged.append(
                    f"`{name}` is not as {sealed.node} wrote it in {sealed.run_id}: "
                    f"{'; '.join(changes.values())} (in {artifact.uri}). Clear `{sealed.node}` with what is "
                    "downstream, and it is written again."
                )
    if damaged:
        raise DamagedArtifactError(" ".join(damaged))
    return contents


def fetched(folder: Path, sealed: Seal | None) -> dict[str, str]:
    """Fetch an artifact's files, once more if this host's copy is not as sealed, and return their hashes.

    Raises DamagedStateError.
    """
    fetch(folder)
    files = hash_files(folder)
    if sealed and differences(sealed.files, files) and current().restore(folder):
        log.warning("this host's copy of %s was damaged: it is fetched again", folder)
        files = hash_files(folder)
    return files


def seal_of(artifact: types.Artifact) -> Seal | None:
    """Return the artifact's seal, or None."""
    text = kept(artifact.mlmd_artifact, PROPERTY)
    return Seal.parse(text, where=f"the {PROPERTY} of {artifact.uri}") if text else None


def files_below(artifact: types.Artifact, folder: Path) -> dict[str, str] | None:
    """Return the sealed sha256 of each file in `folder`, a subfolder of the artifact; None without a seal.

    Keys are paths relative to `folder`.
    """
    sealed = seal_of(artifact)
    if sealed is None:
        return None
    inside = {Path(artifact.uri) / name: digest for name, digest in sealed.files.items()}
    return {p.relative_to(folder).as_posix(): digest for p, digest in inside.items() if folder in p.parents}
