"""Each artifact carries the hashes of its files from the node that made it, and every node checks those it reads.

They are a property of the artifact in ML Metadata, so an artifact that is reused keeps them. One of another runner, or
of an older version of this project, has none and is not checked.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tfx import types

from nightly.io.files import differences, hash_files
from nightly.records.base import Contract
from nightly.tfx.metadata import Artifact, keep, kept

PROPERTY = "nightly_seal"  # of an artifact: Seal

Artifacts = Mapping[str, Sequence[types.Artifact]]
Contents = dict[str, dict[str, str]]  # an artifact's URI -> path inside -> sha256


class Seal(Contract):
    """Which node made an artifact, in which run, and the sha256 of each file by its path inside."""

    node: str
    run_id: str
    files: dict[str, str]


class DamagedArtifactError(Exception):
    """An artifact's files are not those that its node wrote; the message names the files and what to clear."""


def seal(artifacts: Iterable[Artifact], node: str, run_id: str) -> None:
    """Hash the files of `artifacts`, which `node` has just made. Those of one URI are hashed once."""
    contents: Contents = {}
    for artifact in artifacts:
        if artifact.uri not in contents:
            contents[artifact.uri] = hash_files(Path(artifact.uri))
        keep(artifact, PROPERTY, Seal(node=node, run_id=run_id, files=contents[artifact.uri]))


def check(artifacts: Artifacts) -> Contents:
    """Hash the files of `artifacts` (by input), and compare them with the seals. Raises DamagedArtifactError."""
    contents, wrong = {}, []
    for name, group in artifacts.items():
        for artifact in group:
            contents[artifact.uri] = hash_files(Path(artifact.uri))
            sealed = seal_of(artifact)
            if sealed and (wrong_files := differences(sealed.files, contents[artifact.uri])):
                wrong.append(
                    f"`{name}` is not as {sealed.node} made it in {sealed.run_id}: "
                    f"{'; '.join(wrong_files.values())} (in {artifact.uri}). Clear `{sealed.node}` with what is "
                    "downstream, and it is made anew."
                )
    if wrong:
        raise DamagedArtifactError(" ".join(wrong))
    return contents


def seal_of(artifact: types.Artifact) -> Seal | None:
    """The artifact's seal, where it has one."""
    text = kept(artifact.mlmd_artifact, PROPERTY)
    return Seal.parse(text, where=f"the {PROPERTY} of {artifact.uri}") if text else None


def files_below(artifact: types.Artifact, folder: Path) -> dict[str, str] | None:
    """Return path inside `folder`, a part of the artifact -> sha256, as sealed; None without a seal."""
    sealed = seal_of(artifact)
    if sealed is None:
        return None
    inside = {Path(artifact.uri) / name: digest for name, digest in sealed.files.items()}
    return {p.relative_to(folder).as_posix(): digest for p, digest in inside.items() if folder in p.parents}
