"""Reads what the page shows from the records on disk. A record that is missing or damaged is said, and never raised."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from nightly.io.paths import Places
from nightly.models import load_config, model_names
from nightly.records.base import Contract, ContractError
from nightly.records.canary import Comparison, Look
from nightly.records.distributions import FILE as DISTRIBUTIONS
from nightly.records.distributions import SERVING_FILE, Distributions
from nightly.records.evaluation import Evaluation
from nightly.records.night import GateResult, Night, Reason, SnapshotRef, StepError
from nightly.records.release import NOT_RELEASED, NotReleased, ReleaseRecord, Rollback
from nightly.records.schema import PROPOSAL, REVIEW, SchemaProposal, SchemaReview
from nightly.records.snapshot import SnapshotManifest
from nightly.records.thresholds import FILE as THRESHOLDS
from nightly.records.thresholds import ThresholdsUsed
from nightly.records.verdict import Verdict
from nightly.release.comparisons import comparison_path

MODEL = re.compile(r"[a-z][a-z0-9_]*")
RUN_TIME = re.compile(r"__(20\d\d)-([01]\d)-([0-3]\d)T(\d\d)-(\d\d)")
HISTORY = 60  # nights that a plot reaches back
Kind = TypeVar("Kind", bound=Contract)


class NotFound(LookupError):
    """There is no such model, night, snapshot or version; the message says which there are."""


@dataclass
class NightRecord:
    """A night as far as its folder tells; what could not be read is named in `problems`."""

    model: str
    name: str  # of its folder
    night: Night | None = None
    verdict: Verdict | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def as_of(self) -> dt.datetime | None:
        """Of a night that was never planned, what its run says; a verdict of an older version does not have that."""
        known = self.night or self.verdict
        return (known.as_of if known else None) or _date_of(self.name) or (self.verdict and self.verdict.decided_at)

    @property
    def run_id(self) -> str:
        """The run's in Airflow, as far as a record has it; else the folder's name, which is near it."""
        known = self.night or self.verdict
        return known.run_id if known else self.name

    @property
    def run_url(self) -> str:
        """The run in the Airflow UI; "" where no record has it."""
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
        """The run was cleared after its verdict: what stands here may change."""
        return bool(self.night and self.verdict and self.night.planned_at > self.verdict.decided_at)


@dataclass
class Point:
    """One night's distance of one feature."""

    as_of: dt.datetime
    night: str
    value: float
    threshold: float | None
    held: bool


@dataclass
class Canary:
    """A version that went to a share of the callers first. Either record may be missing: a look has not been yet, or
    what there was cannot be read."""

    version: int
    release: ReleaseRecord | None
    comparison: Comparison | None

    @property
    def live(self) -> bool:
        return self.release is not None and self.release.state == "canary"

    @property
    def stable(self) -> int | None:
        """What it is compared with."""
        return self.comparison.stable if self.comparison else self.release.previous_version

    @property
    def share(self) -> float | None:
        return self.comparison.share if self.comparison else self.release.canary_share

    @property
    def since(self) -> dt.datetime | None:
        return self.comparison.since if self.comparison else self.release.canary_since

    @property
    def looks(self) -> list[Look]:
        """Those that found a difference, oldest first."""
        looks = self.comparison.looks if self.comparison else []
        return [look for look in looks if None not in (look.difference, look.low, look.high)]

    @property
    def last(self) -> Look | None:
        return self.comparison.looks[-1] if self.comparison and self.comparison.looks else None


@dataclass
class NightDetails:
    """All that a night's folder holds."""

    record: NightRecord
    data_gate: GateResult | None
    model_gate: GateResult | None
    snapshot: SnapshotRef | None
    release: ReleaseRecord | None
    not_released: NotReleased | None
    canary: Canary | None  # what became of this night's release, where it was one
    evaluation: Evaluation | None
    distributions: Distributions | None
    serving: Distributions | None  # logged requests beside training
    thresholds: ThresholdsUsed | None
    judged_before: tuple[NightRecord, ThresholdsUsed] | None  # the last night before it whose thresholds are known
    errors: list[StepError]
    proposal: SchemaProposal | None
    review: SchemaReview | None
    drift: dict[str, dict[str, list[Point]]]  # feature -> control -> oldest first

    @property
    def failed_task(self) -> str:
        """The task that the night failed at; before there is a verdict, one that is tried again. "" where none did."""
        if self.record.verdict:
            return self.record.verdict.failed_task
        return self.errors[0].task if self.errors else ""

    @property
    def reasons(self) -> list[Reason]:
        """The verdict's; before there is one, what the gates have found so far."""
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
        """The one that is being compared with production."""
        return next((canary for canary in self.canaries if canary.live), None)

    @property
    def production_since(self) -> dt.datetime | None:
        """When it came: by its release, or by going back to it."""
        if self.production is None:
            return None
        back = [r.done_at for r in self.rollbacks if r.version == self.production.version and r.done_at]
        return max([self.production.released_at, *back])

    @property
    def last(self) -> NightRecord | None:
        """The night that was decided last, whatever time it is for."""
        decided = [night for night in self.nights if night.verdict]
        return max(decided, key=lambda night: night.verdict.decided_at, default=None)


class Records:
    """What the page asks for. A name from outside is looked up among what is there, and never joined to a path."""

    def __init__(self, places: Places | None = None) -> None:
        self.places = places or Places.from_environment()

    def models(self) -> list[str]:
        """Those configured, and those that only records remember."""
        kept = [p.name for root in (self.places.nights, self.places.releases) for p in _folders(root)]
        return sorted({*model_names(), *filter(MODEL.fullmatch, kept)})

    def model(self, name: str) -> ModelRecord:
        """Raises NotFound."""
        problems: list[str] = []
        releases = self.places.releases / self._known(name)
        found = [_read(ReleaseRecord, path, problems) for path in releases.glob("[0-9]*.json")]
        compared = [_read(Comparison, path, problems) for path in (releases / "canaries").glob("[0-9]*.json")]
        rollbacks = [_read(Rollback, path, problems) for path in (releases / "rollbacks").glob("*.json")]
        try:
            description = load_config(name).description
        except ContractError as error:
            description = ""
            problems.append(str(error))
        return ModelRecord(
            name=name,
            description=description,
            nights=self.nights(name),
            releases=sorted(filter(None, found), key=lambda record: -record.version),
            rollbacks=sorted(filter(None, rollbacks), key=lambda r: r.done_at.timestamp() if r.done_at else 0)[::-1],
            canaries=_canaries(filter(None, found), filter(None, compared)),
            problems=problems,
        )

    def nights(self, model: str) -> list[NightRecord]:
        """Newest as-of time first; among those of one time, the one planned last first."""
        found = [self._night(model, folder) for folder in _folders(self.places.nights / model) if _is_night(folder)]
        return sorted(found, key=_order, reverse=True)

    def night(self, model: str, name: str) -> NightDetails:
        """Raises NotFound."""
        folders = _folders(self.places.nights / self._known(model))
        folder = next((folder for folder in folders if folder.name == name), None)
        if folder is None:
            latest = ", ".join(record.name for record in self.nights(model)[:3]) or "none yet"
            raise NotFound(f"{model} has no night of that name: its run has not begun, or never was. Latest: {latest}.")
        record = self._night(model, folder)
        errors = [_read(StepError, path, record.problems) for path in sorted(folder.glob("*.error.json"))]
        release = _read(ReleaseRecord, folder / "release.json", record.problems)
        return NightDetails(
            record=record,
            data_gate=_read(GateResult, folder / "data_gate.json", record.problems),
            model_gate=_read(GateResult, folder / "model_gate.json", record.problems),
            snapshot=_read(SnapshotRef, folder / "snapshot.json", record.problems),
            release=release,
            not_released=_read(NotReleased, folder / NOT_RELEASED, record.problems),
            canary=self._canary(model, release, record.problems),
            evaluation=_read(Evaluation, folder / "evaluation.json", record.problems),
            distributions=_read(Distributions, folder / DISTRIBUTIONS, record.problems),
            thresholds=_read(ThresholdsUsed, folder / THRESHOLDS, record.problems),
            judged_before=self._judged_before(record),
            serving=_read(Distributions, folder / SERVING_FILE, record.problems),
            errors=[error for error in errors if error],
            proposal=_read(SchemaProposal, folder / PROPOSAL, record.problems),
            review=_read(SchemaReview, folder / REVIEW, record.problems),
            drift=self._drift(record),
        )

    def snapshot(self, model: str, snapshot_id: str) -> SnapshotManifest:
        """Raises NotFound."""
        folders = _folders(self.places.snapshots / self._known(model))
        folder = next((folder for folder in folders if folder.name == snapshot_id), None)
        manifest = _read(SnapshotManifest, folder / "manifest.json", problems := []) if folder else None
        if manifest is None:
            raise NotFound("\n".join(problems) if folder and problems else "That snapshot is not kept any more.")
        return manifest

    def release(self, model: str, version: str) -> ReleaseRecord:
        """Raises NotFound."""
        paths = (self.places.releases / self._known(model)).glob("[0-9]*.json")
        path = next((path for path in paths if path.stem == version), None)
        record = _read(ReleaseRecord, path, problems := []) if path else None
        if record is None:
            raise NotFound("\n".join(problems) if path else f"{model} never had a version of that number.")
        return record

    def _known(self, model: str) -> str:
        """The name, when there is such a model: only then is it a part of a path."""
        if model not in self.models():
            raise NotFound("There is no model of that name.")
        return model

    def _night(self, model: str, folder: Path) -> NightRecord:
        record = NightRecord(model, folder.name)
        record.night = _read(Night, folder / "request.json", record.problems)
        record.verdict = _read(Verdict, folder / "verdict.json", record.problems)
        return record

    def _canary(self, model: str, release: ReleaseRecord | None, problems: list[str]) -> Canary | None:
        if release is None or release.canary_share is None:
            return None
        releases = self.places.releases / model
        now = _read(ReleaseRecord, releases / f"{release.version}.json", problems)
        path = comparison_path(self.places, model, release.version)
        return Canary(release.version, now or release, _read(Comparison, path, problems))

    def _judged_before(self, current: NightRecord) -> tuple[NightRecord, ThresholdsUsed] | None:
        for record in self.nights(current.model):  # newest first
            if _order(record) < _order(current):
                path = self.places.nights / current.model / record.name / THRESHOLDS
                if used := _read(ThresholdsUsed, path, []):
                    return record, used
        return None

    def _drift(self, current: NightRecord) -> dict[str, dict[str, list[Point]]]:
        """Each feature's distances in this night and in those before it, one night an as-of time."""
        if current.as_of is None:
            return {}
        nights: dict[dt.datetime, NightRecord] = {}
        for record in self.nights(current.model):
            if record.as_of and record.as_of <= current.as_of:
                nights.setdefault(record.as_of, record)
        nights[current.as_of] = current
        series: dict[str, dict[str, list[Point]]] = {}
        for as_of in sorted(nights)[-HISTORY:]:
            name = nights[as_of].name
            gate = _read(GateResult, self.places.nights / current.model / name / "data_gate.json", [])
            for reason in gate.reasons if gate else ():
                if reason.check == "drift" and reason.subject and isinstance(reason.figure, float):
                    threshold = reason.threshold if isinstance(reason.threshold, float) else None
                    point = Point(as_of, name, reason.figure, threshold, reason.held)
                    series.setdefault(reason.subject, {}).setdefault(reason.control or "last_accepted", []).append(
                        point
                    )
        return series


def _canaries(releases: Iterable[ReleaseRecord], comparisons: Iterable[Comparison]) -> list[Canary]:
    """Newest first."""
    released = {record.version: record for record in releases}
    compared = {comparison.version: comparison for comparison in comparisons}
    versions = compared.keys() | {version for version, record in released.items() if record.canary_share is not None}
    return [Canary(version, released.get(version), compared.get(version)) for version in sorted(versions)[::-1]]


def _order(record: NightRecord) -> tuple[float, float]:
    planned = record.night.planned_at if record.night else record.verdict.decided_at if record.verdict else None
    return tuple(time.timestamp() if time else 0.0 for time in (record.as_of, planned))


def _date_of(name: str) -> dt.datetime | None:
    """The time in a run's id, as its folder is called: scheduled__2016-01-02T03-00-00-00-00."""
    found = RUN_TIME.search(name)
    return dt.datetime(*map(int, found.groups()), tzinfo=dt.UTC) if found else None


def _folders(root: Path) -> Iterable[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _is_night(folder: Path) -> bool:
    """A rollback's run has a folder too."""
    return any((folder / name).exists() for name in ("request.json", "verdict.json", "plan.error.json"))


def _read(contract: type[Kind], path: Path, problems: list[str]) -> Kind | None:
    try:
        return contract.load(path)
    except FileNotFoundError:
        return None
    except (ContractError, OSError, UnicodeDecodeError) as error:
        problems.append(f"{path.name} cannot be read. {error}")
        return None
