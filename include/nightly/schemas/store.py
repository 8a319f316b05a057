"""The versions of a model's schema: the curated schema in its folder, and the versions that people approved since.

The curated schema is in git and may be in a read-only image, so approved versions are in NIGHTLY_SCHEMAS. A version is
active while the curated schema that it is based on stays unchanged. An edit of the curated schema supersedes all
versions based on it.
"""

import hashlib
from pathlib import Path

from nightly.io.atomic import write_atomically
from nightly.io.errors import UserError
from nightly.io.locks import locked
from nightly.io.paths import MODELS, Paths
from nightly.records.night import Night, utc_now
from nightly.records.schema import SchemaProposal, SchemaReview, SchemaVersion
from nightly.schemas.reviews import save_review


class SchemaVersionError(UserError):
    """A version cannot be read or created. The message names the cause and the next action."""


class SchemaStore:
    """A model's schema versions. Safe for several processes at once."""

    def __init__(self, paths: Paths, model: str, models: Path = MODELS) -> None:
        self.model = model
        self.folder = paths.schemas / model
        self.curated = models / model / "schema.pbtxt"

    def versions(self) -> list[SchemaVersion]:
        """Return the records of all versions, superseded ones included, oldest first."""
        records = [SchemaVersion.load(path) for path in self.folder.glob("[0-9]*.json")]
        return sorted(records, key=lambda record: record.version)

    def active(self) -> SchemaVersion | None:
        """Return the newest version on the current curated schema, or None if there is none."""
        curated = sha256(self.curated.read_text())
        return next((record for record in reversed(self.versions()) if record.curated_sha256 == curated), None)

    def current(self) -> int:
        """Return the number of the version for new nights; 0 is the curated schema."""
        active = self.active()
        return active.version if active else 0

    def version(self, number: int) -> SchemaVersion:
        """Return the record of a version. Raises SchemaVersionError if it is missing."""
        path = self.folder / f"{number}.json"
        try:
            return SchemaVersion.load(path)
        except FileNotFoundError:
            existing = ", ".join(str(record.version) for record in self.versions()) or "none yet"
            raise SchemaVersionError(
                f"{self.model}'s schema has no version {number} in {self.folder} (there are: {existing}, and 0, the "
                "curated one). Put it back there, or clear `plan` with what is downstream to use the current schema."
            ) from None

    def path(self, number: int) -> Path:
        """Return the path of a version's text after checking its hash; 0 is the curated schema.

        Raises SchemaVersionError.
        """
        if number == 0:
            return self.curated
        record, path = self.version(number), self.folder / f"{number}.pbtxt"
        if not path.exists() or sha256(path.read_text()) != record.sha256:
            raise SchemaVersionError(f"{path} differs from the text approved on {record.approved_at}: restore it")
        return path

    def text(self, number: int) -> str:
        return self.path(number).read_text()

    def note(self, number: int) -> str:
        """Return the note on a version for a night's records."""
        if number:
            return self.version(number).title
        newest = next(reversed(self.versions()), None)
        if newest is None:
            return ""
        if newest.sha256 == sha256(self.curated.read_text()):
            return f"the curated one, which {newest.title} was put into"
        return f"the curated one: it has changed since, which supersedes {newest.title}"

    def approve(self, proposal: SchemaProposal, *, by: str, reason: str) -> SchemaVersion:
        """Write the proposed schema as a new version. Approving the same text again returns the existing version.

        Raises SchemaVersionError if the reason is empty, or the proposal is based on a schema that is not current.
        """
        reason = " ".join(reason.split())
        if not reason:
            raise SchemaVersionError("a schema change is not approved without a reason: say why it is right")
        with locked(self.folder / ".lock"):
            active = self.active()
            base = self.text(active.version if active else 0)
            proposed = sha256(proposal.text)
            if active and active.sha256 == proposed:
                return active
            if sha256(base) != proposal.base_sha256:
                raise SchemaVersionError(
                    f"the proposal of {proposal.run_id} was made on another schema than the current one "
                    f"({active.title if active else 'the curated one'}). Clear `plan` of that run with what is "
                    "downstream: the night is judged by the current schema, and proposes again what does not fit it."
                )
            record = SchemaVersion(
                model=self.model,
                version=max((existing.version for existing in self.versions()), default=0) + 1,
                base_version=active.version if active else 0,
                curated_sha256=active.curated_sha256 if active else proposal.base_sha256,
                sha256=proposed,
                run_id=proposal.run_id,
                approved_by=by,
                reason=reason,
                approved_at=utc_now(),
                changes=proposal.changes,
                diff=proposal.diff,
            )
            write_atomically(self.folder / f"{record.version}.pbtxt", proposal.text.encode())
            record.save(self.folder / f"{record.version}.json")
            return record

    def adopt(self) -> SchemaVersion:
        """Write the active version to the model's curated schema, to be committed.

        Raises SchemaVersionError or OSError.
        """
        with locked(self.folder / ".lock"):
            active = self.active()
            if active is None:
                raise SchemaVersionError(f"{self.model} has no active approved version: the curated schema is in use")
            write_atomically(self.curated, self.text(active.version).encode())
            return active


def answer(
    paths: Paths, model: str, night_folder: Path, *, approved: bool, by: str, reason: str, models: Path = MODELS
) -> SchemaReview:
    """Record a person's answer to a night's proposal. An approved version applies to the night's remaining steps.

    Earlier answers stay on record, and a version that one of them created stays active.

    Raises FileNotFoundError if the night proposes nothing, or SchemaVersionError.
    """
    proposal = SchemaProposal.load(night_folder / SchemaProposal.FILE)
    store, version = SchemaStore(paths, model, models), None
    if not reason.strip():
        raise SchemaVersionError("a schema change is not answered without a reason: say why")
    if approved:
        version = store.approve(proposal, by=by, reason=reason).version
        night = Night.load(night_folder / Night.FILE)
        planned = {"schema_version": version, "schema_note": store.note(version)}
        night.model_copy(update=planned).save(night_folder / Night.FILE)
    review = SchemaReview(
        decision="approved" if approved else "rejected",
        by=by,
        reason=" ".join(reason.split()),
        version=version,
        answered_at=utc_now(),
    )
    return save_review(night_folder, review)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
