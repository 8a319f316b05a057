"""The nights, models and canaries that the page shows: their records, and values derived from them."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field

from nightly.records.canary import Comparison, Look
from nightly.records.distributions import Distributions
from nightly.records.evaluation import Evaluation
from nightly.records.labels import Labels
from nightly.records.night import Download, GateResult, Night, Reason, SnapshotRef, StepError
from nightly.records.release import NotReleased, ReleaseRecord, Rollback
from nightly.records.schema import SchemaProposal, SchemaReview
from nightly.records.thresholds import ThresholdsUsed
from nightly.records.verdict import Verdict
from nightly_airflow.web.history import History

RUN_TIME = re.compile(r"__(20\d\d)-([01]\d)-([0-3]\d)T(\d\d)-(\d\d)")


@dataclass
class NightRecord:
    """A night's records; `problems` names those that cannot be read."""

    model: str
    name: str  # the folder's
    night: Night | None = None
    verdict: Verdict | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def as_of(self) -> dt.datetime | None:
        """The as-of time; of a night that was never planned, the time in its run's id, or that of its verdict."""
        known = self.night or self.verdict
        decided_at = self.verdict.decided_at if self.verdict else None
        return (known.as_of if known else None) or _date_of(self.name) or decided_at

    @property
    def run_id(self) -> str:
        """The run's id in Airflow; without a record of it, the folder's name, which resembles it."""
        known = self.night or self.verdict
        return known.run_id if known else self.name

    @property
    def run_url(self) -> str:
        """The URL of the run in the Airflow UI; "" if no record has it."""
        known = [record.run_url for record in (self.night, self.verdict) if record]
        return next((url for url in known if url.startswith(("http://", "https://"))), "")

    @property
    def title(self) -> str:
        return f"{self.as_of:%Y-%m-%d}" if self.as_of else self.name

    @property
    def outcome(self) -> str:
        return self.verdict.outcome.value if self.verdict else ""

    @property
    def planned_again(self) -> bool:
        """Whether the run was cleared after its verdict, so that its records may change."""
        return bool(self.night and self.verdict and self.night.planned_at > self.verdict.decided_at)


@dataclass
class Canary:
    """A version released to a share of the callers first.

    `comparison` is None before the first look; either record is None if it cannot be read.
    """

    version: int
    release: ReleaseRecord | None
    comparison: Comparison | None

    @property
    def live(self) -> bool:
        return self.release is not None and self.release.state == "canary"

    @property
    def stable(self) -> int | None:
        """The version that it is compared with."""
        if self.comparison:
            return self.comparison.stable
        return self.release.previous_version if self.release else None

    @property
    def share(self) -> float | None:
        if self.comparison:
            return self.comparison.share
        return self.release.canary_share if self.release else None

    @property
    def since(self) -> dt.datetime | None:
        if self.comparison:
            return self.comparison.since
        return self.release.canary_since if self.release else None

    @property
    def looks(self) -> list[Look]:
        """The looks with a measured difference, oldest first."""
        looks = self.comparison.looks if self.comparison else []
        return [look for look in looks if None not in (look.difference, look.low, look.high)]

    @property
    def last(self) -> Look | None:
        return self.comparison.looks[-1] if self.comparison and self.comparison.looks else None


@dataclass
class NightDetails:
    """All records of a night's folder."""

    record: NightRecord
    data_gate: GateResult | None
    model_gate: GateResult | None
    download: Download | None
    snapshot: SnapshotRef | None
    release: ReleaseRecord | None
    not_released: NotReleased | None
    canary: Canary | None  # if this night's release was a canary
    evaluation: Evaluation | None
    distributions: Distributions | None
    serving: Distributions | None  # logged requests compared with training
    thresholds: ThresholdsUsed | None
    judged_before: tuple[NightRecord, ThresholdsUsed] | None  # the last earlier night whose thresholds are known
    errors: list[StepError]
    proposal: SchemaProposal | None
    review: SchemaReview | None
    labels: Labels | None  # None in nights of older versions
    history: History

    @property
    def failed_task(self) -> str:
        """The task that failed; before there is a verdict, one that is being retried; "" if none failed."""
        if self.record.verdict:
            return self.record.verdict.failed_task
        return self.errors[0].task if self.errors else ""

    @property
    def reasons(self) -> list[Reason]:
        """The findings of the verdict; before there is one, those of the gates so far."""
        if self.record.verdict:
            return self.record.verdict.reasons
        return [reason for gate in (self.data_gate, self.model_gate) if gate for reason in gate.reasons]


@dataclass
class ModelRecord:
    """A model: its nights, newest as-of time first, and its versions, newest first."""

    name: str
    description: str
    nights: list[NightRecord]
    releases: list[ReleaseRecord]
    rollbacks: list[Rollback]
    canaries: list[Canary]  # newest first
    problems: list[str]

    @property
    def production(self) -> ReleaseRecord | None:
        return next((record for record in self.releases if record.state == "released"), None)

    @property
    def canary(self) -> Canary | None:
        """The canary that is being compared with production."""
        return next((canary for canary in self.canaries if canary.live), None)

    @property
    def production_since(self) -> dt.datetime | None:
        """The time of the release of, or the last rollback to, the version in production."""
        if self.production is None:
            return None
        back = [r.at for r in self.rollbacks if r.version == self.production.version and r.at]
        return max([self.production.released_at, *back])

    @property
    def last(self) -> NightRecord | None:
        """The night with the latest verdict, whatever its as-of time."""
        decided = {night.verdict.decided_at: night for night in self.nights if night.verdict}
        return decided[max(decided)] if decided else None


def _date_of(name: str) -> dt.datetime | None:
    """Return the time in a folder's name, such as scheduled__2016-01-02T03-00-00-00-00; None if it has none."""
    match = RUN_TIME.search(name)
    if match is None:
        return None
    year, month, day, hour, minute = map(int, match.groups())
    try:
        return dt.datetime(year, month, day, hour, minute, tzinfo=dt.UTC)
    except ValueError:  # a person may name a run after a date that does not exist
        return None
