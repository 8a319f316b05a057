"""The last word on a night, whatever happened."""

from enum import StrEnum

from pydantic import AwareDatetime

from nightly.records.base import Contract
from nightly.records.night import Reason


class Outcome(StrEnum):
    RELEASED = "RELEASED"  # a new version is in the serving volume
    ACCEPTED = "ACCEPTED"  # data and model deserve it, and the run was not asked to release
    HELD_DATA = "HELD_DATA"
    HELD_MODEL = "HELD_MODEL"
    NO_DATA = "NO_DATA"  # the source had no rows for the window
    FAILED = "FAILED"  # a step broke


class Verdict(Contract):
    model: str
    run_id: str
    outcome: Outcome
    summary: str  # one sentence a person on call can act on
    reasons: list[Reason]  # why it was held, or what was noticed
    failed_task: str = ""
    error: str = ""
    snapshot_id: str = ""
    rows: int | None = None
    version: int | None = None
    metrics: dict[str, float] = {}
    production_version: int | None = None  # when it was decided
    damage: str = ""  # what was wrong with the files in production, and what was done about it
    as_of: AwareDatetime | None = None  # of a night that was never planned, the time that its run is for
    run_url: str = ""  # the run in the Airflow UI
    override_reason: str = ""
    reused: dict[str, str] = {}  # task -> the run whose work it took over
    schema_version: int = 0  # that the data was judged by; 0 is the curated one
    schema_note: str = ""  # who approved it and why, or what the curated one has superseded
    schema_review: str = ""  # what a person answered to a proposed schema change, in one sentence
    decided_at: AwareDatetime

    @property
    def reused_runs(self) -> dict[str, list[str]]:
        """Each run whose work was taken over -> the tasks that did."""
        runs: dict[str, list[str]] = {}
        for task, run in self.reused.items():
            runs.setdefault(run, []).append(task)
        return runs
