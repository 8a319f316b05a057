"""Reads the page's content from the records. A damaged record is shown as a problem, and never raised."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from nightly.io.errors import UserError
from nightly.io.paths import Paths
from nightly.models import load_config, model_names
from nightly.records.base import Contract, ContractError
from nightly.records.canary import Comparison
from nightly.records.distributions import Distributions
from nightly.records.evaluation import Evaluation
from nightly.records.labels import Labels
from nightly.records.night import Download, GateResult, Night, SnapshotRef, StepError
from nightly.records.release import NotReleased, ReleaseRecord, Rollback
from nightly.records.schema import SchemaProposal, SchemaReview
from nightly.records.snapshot import SnapshotManifest
from nightly.records.thresholds import ThresholdsUsed
from nightly.records.verdict import Verdict
from nightly.release.comparisons import comparison_path
from nightly.state import current
from nightly_airflow.web.history import NIGHTS, History
from nightly_airflow.web.views import Canary, ModelRecord, NightDetails, NightRecord

MODEL = re.compile(r"[a-z][a-z0-9_]*")
Record = TypeVar("Record", bound=Contract)


class NotFound(UserError, LookupError):
    """There is no such model, night, snapshot or version."""


class Records:
    """The records that the page shows. A name from a URL must match an existing name: it never becomes a path.

    :param paths: where they are; by default where the state shows them. An object shows each model as it was when it
        was first asked for: make one for each request.
    """

    def __init__(self, paths: Paths | None = None) -> None:
        self._paths = paths
        self._views: dict[str, Paths] = {}

    def models(self) -> list[str]:
        """Return the names of models that are configured or have records on this host."""
        paths = self._paths or Paths.from_environment()
        recorded = [p.name for root in (paths.nights, paths.releases) for p in _folders(root)]
        return sorted({*model_names(), *filter(MODEL.fullmatch, recorded)})

    def model(self, name: str) -> ModelRecord:
        """Return a model with its nights and versions. Raise NotFound."""
        problems: list[str] = []
        releases = self.view(self._known(name)).releases / name
        records = [_read(ReleaseRecord, path, problems) for path in releases.glob("[0-9]*.json")]
        comparisons = [_read(Comparison, path, problems) for path in (releases / "canaries").glob("[0-9]*.json")]
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
            releases=sorted(filter(None, records), key=lambda record: -record.version),
            rollbacks=sorted(filter(None, rollbacks), key=lambda r: r.at.timestamp() if r.at else 0)[::-1],
            canaries=_canaries(filter(None, records), filter(None, comparisons)),
            problems=problems,
        )

    def nights(self, model: str) -> list[NightRecord]:
        """Return the model's nights by as-of time, newest first; at the same as-of time, the last planned first."""
        records = [
            self._night(model, folder) for folder in _folders(self.view(model).nights / model) if _is_night(folder)
        ]
        return sorted(records, key=_sort_key, reverse=True)

    def night(self, model: str, name: str) -> NightDetails:
        """Return a night with all its records. Raise NotFound."""
        folders = _folders(self.view(self._known(model)).nights / model)
        folder = next((folder for folder in folders if folder.name == name), None)
        if folder is None:
            latest = ", ".join(record.name for record in self.nights(model)[:3]) or "none yet"
            raise NotFound(f"{model} has no night of that name: no such run has begun. Latest: {latest}.")
        record = self._night(model, folder)
        errors = [_read(StepError, path, record.problems) for path in sorted(folder.glob(StepError.FILE.format("*")))]
        release = _read(ReleaseRecord, folder / ReleaseRecord.FILE, record.problems)
        return NightDetails(
            record=record,
            data_gate=_read(GateResult, folder / GateResult.DATA_FILE, record.problems),
            model_gate=_read(GateResult, folder / GateResult.MODEL_FILE, record.problems),
            download=_read(Download, folder / Download.FILE, record.problems),
            snapshot=_read(SnapshotRef, folder / SnapshotRef.FILE, record.problems),
            release=release,
            not_released=_read(NotReleased, folder / NotReleased.FILE, record.problems),
            canary=self._canary(model, release, record.problems),
            evaluation=_read(Evaluation, folder / Evaluation.FILE, record.problems),
            distributions=_read(Distributions, folder / Distributions.FILE, record.problems),
            thresholds=_read(ThresholdsUsed, folder / ThresholdsUsed.FILE, record.problems),
            judged_before=self._judged_before(record),
            serving=_read(Distributions, folder / Distributions.SERVING_FILE, record.problems),
            errors=[error for error in errors if error],
            proposal=_read(SchemaProposal, folder / SchemaProposal.FILE, record.problems),
            review=_read(SchemaReview, folder / SchemaReview.FILE, record.problems),
            labels=_read(Labels, folder / Labels.FILE, record.problems),
            history=self._history(record),
        )

    def snapshot(self, model: str, snapshot_id: str) -> SnapshotManifest:
        """Return a snapshot's manifest. Raise NotFound."""
        folders = _folders(self.view(self._known(model)).snapshots / model)
        folder = next((folder for folder in folders if folder.name == snapshot_id), None)
        problems: list[str] = []
        manifest = _read(SnapshotManifest, folder / SnapshotManifest.FILE, problems) if folder else None
        if manifest is None:
            raise NotFound("\n".join(problems) if folder and problems else "That snapshot is not kept any more.")
        return manifest

    def release(self, model: str, version: str) -> ReleaseRecord:
        """Return the record of a release. Raise NotFound."""
        paths = (self.view(self._known(model)).releases / model).glob("[0-9]*.json")
        path = next((path for path in paths if path.stem == version), None)
        problems: list[str] = []
        record = _read(ReleaseRecord, path, problems) if path else None
        if record is None:
            raise NotFound("\n".join(problems) if path else f"{model} never had a version of that number.")
        return record

    def view(self, model: str) -> Paths:
        """Return where the model's records can be read."""
        if model not in self._views:
            self._views[model] = self._paths or current().view(model)
        return self._views[model]

    def _known(self, model: str) -> str:
        """Return the name if there is such a model, so that it is safe in a path. Raise NotFound."""
        if model not in self.models():
            raise NotFound("There is no model of that name.")
        return model

    def _night(self, model: str, folder: Path) -> NightRecord:
        record = NightRecord(model, folder.name)
        record.night = _read(Night, folder / Night.FILE, record.problems)
        record.verdict = _read(Verdict, folder / Verdict.FILE, record.problems)
        return record

    def _canary(self, model: str, release: ReleaseRecord | None, problems: list[str]) -> Canary | None:
        if release is None or release.canary_share is None:
            return None
        releases = self.view(model).releases / model
        latest = _read(ReleaseRecord, releases / f"{release.version}.json", problems)
        path = comparison_path(self.view(model), model, release.version)
        return Canary(release.version, latest or release, _read(Comparison, path, problems))

    def _judged_before(self, shown: NightRecord) -> tuple[NightRecord, ThresholdsUsed] | None:
        for record in self.nights(shown.model):  # newest first
            if _sort_key(record) < _sort_key(shown):
                path = self.view(shown.model).nights / shown.model / record.name / ThresholdsUsed.FILE
                if used := _read(ThresholdsUsed, path, []):
                    return record, used
        return None

    def _history(self, shown: NightRecord) -> History:
        """Return what this night and those before it measured, one night for each as-of time."""
        history = History()
        if shown.as_of is None:
            return history
        nights: dict[dt.datetime, NightRecord] = {}
        for record in self.nights(shown.model):
            if record.as_of and record.as_of <= shown.as_of:
                nights.setdefault(record.as_of, record)
        nights[shown.as_of] = shown
        for as_of in sorted(nights)[-NIGHTS:]:
            name = nights[as_of].name
            folder = self.view(shown.model).nights / shown.model / name
            if gate := _read(GateResult, folder / GateResult.DATA_FILE, []):
                history.add_gate(as_of, name, gate)
            if labels := _read(Labels, folder / Labels.FILE, []):
                history.add_labels(as_of, name, labels)
        return history


def _canaries(releases: Iterable[ReleaseRecord], comparisons: Iterable[Comparison]) -> list[Canary]:
    """Return the canaries, newest first."""
    released = {record.version: record for record in releases}
    compared = {comparison.version: comparison for comparison in comparisons}
    versions = compared.keys() | {version for version, record in released.items() if record.canary_share is not None}
    return [Canary(version, released.get(version), compared.get(version)) for version in sorted(versions)[::-1]]


def _sort_key(record: NightRecord) -> tuple[float, float]:
    planned = record.night.planned_at if record.night else record.verdict.decided_at if record.verdict else None
    return record.as_of.timestamp() if record.as_of else 0.0, planned.timestamp() if planned else 0.0


def _folders(root: Path) -> Iterable[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _is_night(folder: Path) -> bool:
    """Return whether the folder is a night's; runs of rollbacks have folders, too."""
    return any((folder / name).exists() for name in (Night.FILE, Verdict.FILE, StepError.FILE.format("plan")))


def _read(contract: type[Record], path: Path, problems: list[str]) -> Record | None:
    try:
        return contract.load(path)
    except FileNotFoundError:
        return None
    except (ContractError, OSError, UnicodeDecodeError) as error:
        problems.append(f"{path.name} cannot be read. {error}")
        return None
