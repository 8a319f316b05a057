"""The versions of a model's schema: the curated one in its folder, and what people have approved on top of it.

The curated schema is in git and may be in an image that nobody can write to. So a version that is approved while the
project runs lies in NIGHTLY_SCHEMAS. It holds as long as the curated schema that it goes back to stands as it was; once
that is edited, the curated one is the schema again, and the versions on the old one are superseded.
"""

import hashlib
from pathlib import Path

from nightly.io.atomic import write_atomically
from nightly.io.errors import UserError
from nightly.io.locks import locked
from nightly.io.paths import MODELS, Paths
from nightly.records.night import Night, utc_now
from nightly.records.schema import PROPOSAL, SchemaProposal, SchemaReview, SchemaVersion
from nightly.schemas.reviews import save_review


class SchemaVersionError(UserError):
    """A version cannot be read or made; the message says why and what to do."""


class SchemaStore:
    """A model's schema versions. Safe for several processes at once."""

    def __init__(self, paths: Paths, model: str, models: Path = MODELS) -> None:
        self.model = model
        self.folder = paths.schemas / model
        self.curated = models / model / "schema.pbtxt"

    def versions(self) -> list[SchemaVersion]:
        """Every version there has been, oldest first."""
        found = [SchemaVersion.load(path) for path in self.folder.glob("[0-9]*.json")]
        return sorted(found, key=lambda record: record.version)

    def holding(self) -> SchemaVersion | None:
        """The newest version that holds; None where the curated schema does."""
        curated = sha256(self.curated.read_text())
        return next((one for one in reversed(self.versions()) if one.curated_sha256 == curated), None)

    def current(self) -> int:
        """The number of the version that nights are planned with; 0 is the curated schema."""
        held = self.holding()
        return held.version if held else 0

    def version(self, number: int) -> SchemaVersion:
        """Raises SchemaVersionError."""
        path = self.folder / f"{number}.json"
        try:
            return SchemaVersion.load(path)
        except FileNotFoundError:
            there = ", ".join(str(one.version) for one in self.versions()) or "none yet"
            raise SchemaVersionError(
                f"{self.model}'s schema has no version {number} in {self.folder} (there are: {there}, and 0, the "
                "curated one). Put it back there, or clear `plan` with what is downstream to take today's."
            ) from None

    def path(self, number: int) -> Path:
        """The text of a version, its hash checked; 0 is the curated schema. Raises SchemaVersionError."""
        if number == 0:
            return self.curated
        record, path = self.version(number), self.folder / f"{number}.pbtxt"
        if not path.exists() or sha256(path.read_text()) != record.sha256:
            raise SchemaVersionError(f"{path} is not what was approved on {record.approved_at}: put it back")
        return path

    def text(self, number: int) -> str:
        return self.path(number).read_text()

    def note(self, number: int) -> str:
        """What a night's records say of the version that it was planned with."""
        if number:
            return self.version(number).title
        newest = next(reversed(self.versions()), None)
        if newest is None:
            return ""
        if newest.sha256 == sha256(self.curated.read_text()):
            return f"the curated one, which {newest.title} was put into"
        return f"the curated one: it has changed since, which supersedes {newest.title}"

    def approve(self, proposal: SchemaProposal, *, by: str, reason: str) -> SchemaVersion:
        """Write the version that `proposal` asks for; approving the same again gives the same version.

        Raises SchemaVersionError without a reason, or where the proposal was made on a schema that is not current now.
        """
        reason = " ".join(reason.split())
        if not reason:
            raise SchemaVersionError("a schema change is not approved without a reason: say why it is right")
        with locked(self.folder / ".lock"):
            held = self.holding()
            base = self.text(held.version if held else 0)
            asked = sha256(proposal.text)
            if held and held.sha256 == asked:
                return held
            if sha256(base) != proposal.base_sha256:
                raise SchemaVersionError(
                    f"the proposal of {proposal.run_id} was made on another schema than the current one "
                    f"({held.title if held else 'the curated one'}). Clear `plan` of that run with what is downstream: "
                    "the night is judged by the current schema, and proposes again what does not fit it."
                )
            record = SchemaVersion(
                model=self.model,
                version=max((one.version for one in self.versions()), default=0) + 1,
                base_version=held.version if held else 0,
                curated_sha256=held.curated_sha256 if held else proposal.base_sha256,
                sha256=asked,
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
        """Put the version that holds into the model's folder, to be committed. Raises SchemaVersionError, OSError."""
        with locked(self.folder / ".lock"):
            held = self.holding()
            if held is None:
                raise SchemaVersionError(f"{self.model} has no approved version that holds: the curated schema does")
            write_atomically(self.curated, self.text(held.version).encode())
            return held


def answer(
    paths: Paths, model: str, night_folder: Path, *, approved: bool, by: str, reason: str, models: Path = MODELS
) -> SchemaReview:
    """A person's answer to the proposal of a night: recorded in its folder, and what runs of it from now on uses it.

    Answers before it stay on record; a version that one of them wrote holds on.

    Raises FileNotFoundError where the night proposes nothing, and SchemaVersionError.
    """
    proposal = SchemaProposal.load(night_folder / PROPOSAL)
    store, version = SchemaStore(paths, model, models), None
    if not reason.strip():
        raise SchemaVersionError("a schema change is not answered without a reason: say why")
    if approved:
        version = store.approve(proposal, by=by, reason=reason).version
        night = Night.load(night_folder / "request.json")
        planned = {"schema_version": version, "schema_note": store.note(version)}
        night.model_copy(update=planned).save(night_folder / "request.json")
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
