"""How a model's schema changes: what a night proposes, what a person answers, and the version that comes of it.

In a night's folder: schema_proposal.json (SchemaProposal, by the data gate), schema_asked.json (the one that Airflow
shows), schema_review.json (SchemaReview), and schema_answers.jsonl, the answers before that one.
"""

from typing import Literal

from pydantic import AwareDatetime

from nightly.records.base import Contract
from nightly.records.night import Contribution

PROPOSAL, ASKED, REVIEW = "schema_proposal.json", "schema_asked.json", "schema_review.json"
ANSWERS = "schema_answers.jsonl"
Kind = Literal["new column", "new values", "type", "range", "presence"]


class SchemaChange(Contract):
    """One change of one feature."""

    feature: str
    kind: Kind
    old: str  # "" for a new column
    new: str
    risk: str  # one sentence: what approving it means
    values: list[Contribution] = []  # what was found, with counts of the snapshot's rows
    rows: list[str] = []  # examples, as FILE:ROW of the snapshot, from 0


class SchemaProposal(Contract):
    """What would make a held night's data fit. Nothing comes of it until a person approves."""

    model: str
    run_id: str
    as_of: AwareDatetime
    base_version: int  # the schema that the night was judged by; 0 is the curated one
    base_sha256: str  # of its text
    changes: list[SchemaChange]
    diff: str  # unified, of the text
    text: str  # the whole schema, with the changes and every comment
    left: list[str]  # what would hold the night still if it were approved, a sentence each
    proposed_at: AwareDatetime

    @property
    def lifts(self) -> bool:
        """Whether the night could go on with it."""
        return not self.left


class SchemaReview(Contract):
    """A person's answer, or that there was none."""

    decision: Literal["approved", "rejected", "unanswered"]
    by: str  # "" where nobody answered
    reason: str
    version: int | None = None  # that was written
    answered_at: AwareDatetime
    earlier: list["SchemaReview"] = []  # the night's answers before this one, oldest first

    @property
    def sentence(self) -> str:
        before = "".join(f"; before that, {review.sentence}" for review in reversed(self.earlier))
        if self.decision == "unanswered":
            return f"no answer to the proposed schema change: {self.reason}{before}"
        became = f" as version {self.version}" if self.version else ""
        return f"{self.by} {self.decision} the proposed schema change{became}: {self.reason}{before}"


class SchemaVersion(Contract):
    """<schemas>/<model>/<version>.json, beside the text in <version>.pbtxt. A version exists once this does."""

    model: str
    version: int  # from 1
    base_version: int  # what it changed; 0 is the curated schema
    curated_sha256: str  # of the curated schema that it goes back to: it holds only while that stands
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
