"""The records of a schema change: a night's proposal, a person's answer, and the approved version.

In a night's folder: schema_proposal.json (SchemaProposal, by the data gate), schema_asked.json (the proposal that
Airflow shows), schema_review.json (SchemaReview), and schema_answers.jsonl (earlier answers).
"""

from typing import ClassVar, Literal

from pydantic import AwareDatetime

from nightly.records.base import Contract
from nightly.records.night import Contribution

ANSWERS = "schema_answers.jsonl"
Kind = Literal["new column", "new values", "type", "range", "presence"]


class SchemaChange(Contract):
    """One change of one feature."""

    feature: str
    kind: Kind
    old: str  # "" for a new column
    new: str
    risk: str  # one sentence: what approving it means
    values: list[Contribution] = []  # the values that caused it, counted in the snapshot's rows
    rows: list[str] = []  # example rows, as FILE:ROW of the snapshot, from 0


class SchemaProposal(Contract):
    """A schema that a held night's data would match. It has no effect until a person approves it."""

    FILE: ClassVar = "schema_proposal.json"
    ASKED_FILE: ClassVar = "schema_asked.json"

    model: str
    run_id: str
    as_of: AwareDatetime
    base_version: int  # the schema that the data gate used; 0 is the curated schema
    base_sha256: str  # of its text
    changes: list[SchemaChange]
    diff: str  # unified, of the text
    text: str  # the whole schema, with the changes and every comment
    left: list[str]  # what would still hold the night after an approval, a sentence each
    proposed_at: AwareDatetime

    @property
    def lifts(self) -> bool:
        """Whether the night could go on after an approval."""
        return not self.left


class SchemaReview(Contract):
    """A person's answer, or the fact that nobody answered."""

    FILE: ClassVar = "schema_review.json"

    decision: Literal["approved", "rejected", "unanswered"]
    by: str  # "" if nobody answered
    reason: str
    version: int | None = None  # the version that an approval created
    answered_at: AwareDatetime
    earlier: list["SchemaReview"] = []  # the night's answers before this one, oldest first

    @property
    def sentence(self) -> str:
        """The answer and the earlier ones, for the verdict."""
        earlier = "".join(f"; before that, {review.sentence}" for review in reversed(self.earlier))
        if self.decision == "unanswered":
            return f"no answer to the proposed schema change: {self.reason}{earlier}"
        version = f" as version {self.version}" if self.version else ""
        return f"{self.by} {self.decision} the proposed schema change{version}: {self.reason}{earlier}"


class SchemaVersion(Contract):
    """<schemas>/<model>/<version>.json, beside the text in <version>.pbtxt. A version exists once this does."""

    model: str
    version: int  # from 1
    base_version: int  # the version that it changed; 0 is the curated schema
    curated_sha256: str  # of the curated schema below it: the version is active only while that stays unchanged
    sha256: str  # of its text
    run_id: str  # of the night that proposed it
    approved_by: str
    reason: str
    approved_at: AwareDatetime
    changes: list[SchemaChange]
    diff: str  # against its base

    @property
    def title(self) -> str:
        return f"version {self.version} (approved by {self.approved_by}: {self.reason})"
