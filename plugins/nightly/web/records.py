"""Reads what the page shows from the records on disk. A record that is missing or damaged is said, and never raised."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from include.contracts.base import Contract, ContractError
from include.contracts.config import load_config, model_names
from include.contracts.distributions import FILE as DISTRIBUTIONS
from include.contracts.distributions import Distributions
from include.contracts.evaluation import Evaluation
from include.contracts.night import GateResult, Night, Reason, SnapshotRef, StepError
from include.contracts.places import Places
from include.contracts.release import ReleaseRecord, Rollback
from include.contracts.snapshot import SnapshotManifest
from include.contracts.verdict import Verdict

MODEL = re.compile(r"[a-z][a-z0-9_]*")
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
        return self.night.as_of if self.night else self.verdict.as_of if self.verdict else None

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
class NightDetails:
    """All that a night's folder holds."""

    record: NightRecord
    data_gate: GateResult | None
    model_gate: GateResult | None
    snapshot: SnapshotRef | None
    release: ReleaseRecord | None
    evaluation: Evaluation | None
    distributions: Distributions | None
    errors: list[StepError]
    drift: dict[str, dict[str, list[Point]]]  # feature -> control -> oldest first

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
    problems: list[str]

    @property
    def production(self) -> ReleaseRecord | None:
        return next((record for record in self.releases if record.state == "released"), None)

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
        return NightDetails(
            record=record,
            data_gate=_read(GateResult, folder / "data_gate.json", record.problems),
            model_gate=_read(GateResult, folder / "model_gate.json", record.problems),
            snapshot=_read(SnapshotRef, folder / "snapshot.json", record.problems),
            release=_read(ReleaseRecord, folder / "release.json", record.problems),
            evaluation=_read(Evaluation, folder / "evaluation.json", record.problems),
            distributions=_read(Distributions, folder / DISTRIBUTIONS, record.problems),
            errors=[error for error in errors if error],
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


def _order(record: NightRecord) -> tuple[float, float]:
    planned = record.night.planned_at if record.night else record.verdict.decided_at if record.verdict else None
    return tuple(time.timestamp() if time else 0.0 for time in (record.as_of, planned))


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
