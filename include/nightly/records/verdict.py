"""The verdict: a night's final result."""

from enum import StrEnum
from typing import ClassVar

from pydantic import AwareDatetime

from nightly.records.base import Contract
from nightly.records.night import Reason


class Outcome(StrEnum):
    RELEASED = "RELEASED"  # a new version is in the serving volume
    ACCEPTED = "ACCEPTED"  # both gates passed, but the run releases nothing
    HELD_DATA = "HELD_DATA"
    HELD_MODEL = "HELD_MODEL"
    NO_DATA = "NO_DATA"  # the source had no rows for the window
    FAILED = "FAILED"  # a step failed


class Verdict(Contract):
    FILE: ClassVar = "verdict.json"  # in the night's folder

    model: str
    run_id: str
    outcome: Outcome
    summary: str  # one sentence a person on call can act on
    reasons: list[Reason]  # why it was held, or warnings
    failed_task: str = ""
    error: str = ""
    snapshot_id: str = ""
    rows: int | None = None
    version: int | None = None
    metrics: dict[str, float] = {}
    production_version: int | None = None  # at the time of the verdict
    damage: str = ""  # the damage to the files in production, and what was done about it
    revised: str = ""  # what has changed at the source, or is gone, since earlier nights fetched it
    as_of: AwareDatetime | None = None  # the run's date, for a night that was never planned
    run_url: str = ""  # the run in the Airflow UI
    override_reason: str = ""
    reused: dict[str, str] = {}  # task -> the run whose work it reused
    schema_version: int = 0  # the schema that the data gate used; 0 is the curated schema
    schema_note: str = ""  # who approved the version and why, or which version the curated schema superseded
    schema_review: str = ""  # the answer to a proposed schema change, in one sentence
    decided_at: AwareDatetime

    @property
    def reused_runs(self) -> dict[str, list[str]]:
        """Run whose work was reused -> the tasks that reused it."""
        runs: dict[str, list[str]] = {}
        for task, run in self.reused.items():
            runs.setdefault(run, []).append(task)
        return runs
