"""Baselines: the statistics of accepted snapshots. Later nights are compared with some of them, their controls."""

import logging
import shutil
from pathlib import Path

from nightly.io.atomic import sync_path
from nightly.io.owned import owned_folder, remove_abandoned
from nightly.io.paths import Paths
from nightly.records.base import ContractError
from nightly.records.baseline import Baseline, Control
from nightly.records.data_gate_config import ControlName
from nightly.records.night import Night
from nightly.records.release import ReleaseRecord
from nightly.state import fetch, publish, remove

log = logging.getLogger(__name__)

NEW, REMOVED = ".new-", ".removed-"  # prefixes of folders that are being written or removed
SAME_WEEKDAY_WEEKS = range(4, 9)  # far enough to show a slow drift, near enough that little else has changed
SAME_SEASON_DAYS = (364, 15)  # 52 weeks, and the largest distance from it


def controls_of(paths: Paths, night: Night, factors: dict[ControlName, float]) -> list[Control]:
    """Return the controls that the night's config names, chosen from the baselines of earlier as-of times.

    :param factors: control -> the factor on the thresholds
    """
    earlier = _earlier(paths.baselines, night)
    controls = []
    for name, factor in factors.items():
        pair, missing = _FINDERS[name](earlier, night, paths)
        if pair is None:
            controls.append(Control(name=name, factor=factor, missing=missing))
        else:
            controls.append(Control(name=name, factor=factor, folder=str(pair[1]), baseline=pair[0]))
    return controls


def rows_accepted(root: Path, night: Night, count: int = 14) -> list[int]:
    """Return the row counts of the last `count` baselines before this night's as-of time, the newest last."""
    rows = [baseline.rows for baseline, _ in _earlier(root, night) if baseline.rows]
    return rows[-count:]


def _earlier(root: Path, night: Night) -> list[tuple[Baseline, Path]]:
    """Return the baselines of as-of times before this night's, and their folders, by time; never the night's own."""
    earlier = [
        pair for pair in _all(root, night.model) if pair[0].as_of < night.as_of and pair[0].run_id != night.run_id
    ]
    return sorted(earlier, key=lambda pair: pair[0].as_of)


Choice = tuple[tuple[Baseline, Path] | None, str]  # the baseline and its folder, or None; why there is none


def _last_accepted(earlier: list[tuple[Baseline, Path]], night: Night, paths: Paths) -> Choice:
    return (earlier[-1] if earlier else None), "no snapshot from before this night has been accepted yet"


def _production(earlier: list[tuple[Baseline, Path]], night: Night, paths: Paths) -> Choice:
    if night.in_production is None:
        return None, "no model is in production yet"
    try:
        record = ReleaseRecord.load(paths.releases / night.model / f"{night.in_production}.json")
    except FileNotFoundError:
        return None, f"version {night.in_production} in production has no release record"
    same_run = [pair for pair in earlier if pair[0].run_id == record.run_id]
    matching = same_run or [pair for pair in earlier if pair[0].snapshot_id == record.snapshot_id]
    why = f"no statistics from before this night are kept of snapshot {record.snapshot_id[:12]}, which production is of"
    return (matching[-1] if matching else None), why


def _same_weekday(earlier: list[tuple[Baseline, Path]], night: Night, paths: Paths) -> Choice:
    distances = {7 * weeks for weeks in SAME_WEEKDAY_WEEKS}
    matching = [pair for pair in earlier if _days_before(pair[0], night) in distances]
    weeks = f"{SAME_WEEKDAY_WEEKS[0]} to {SAME_WEEKDAY_WEEKS[-1]} weeks before"
    return (matching[-1] if matching else None), f"no snapshot of the same weekday has been accepted {weeks}"


def _same_season(earlier: list[tuple[Baseline, Path]], night: Night, paths: Paths) -> Choice:
    year, tolerance = SAME_SEASON_DAYS
    near = [pair for pair in earlier if abs(_days_before(pair[0], night) - year) <= tolerance]
    nearest = min(near, key=lambda pair: abs(_days_before(pair[0], night) - year), default=None)
    return nearest, "no snapshot has been accepted a year before, give or take two weeks"


def _days_before(baseline: Baseline, night: Night) -> int:
    return round((night.as_of - baseline.as_of).total_seconds() / 86_400)  # rounded, because clocks change by an hour


_FINDERS = {
    "last_accepted": _last_accepted,
    "production": _production,
    "same_weekday": _same_weekday,
    "same_season": _same_season,
}


def accept(root: Path, baseline: Baseline, statistics: Path) -> Path:
    """Copy `statistics` (a folder for each split) as the baseline, atomically; return its folder."""
    withdraw(root, baseline.model, baseline.run_id)
    folder = root / baseline.model
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{baseline.as_of:%Y%m%dT%H%M%S}-{baseline.snapshot_id[:12]}"
    if target.exists():  # the same night under another run id had the same data
        fetch(target)
        if _load(target / Baseline.FILE):
            publish(target)  # unless its process died first
            return target
        _remove(target)
    remove_abandoned([*folder.glob(f"{NEW}*"), *folder.glob(f"{REMOVED}*")])
    with owned_folder(folder, NEW) as building:
        shutil.copytree(statistics, building / "whole")
        baseline.save(building / f"whole/{Baseline.FILE}")
        (building / "whole").rename(target)
    sync_path(folder)
    publish(target)
    return target


def snapshots_of(root: Path, model: str) -> set[str]:
    """Return the ids of the snapshots that have a baseline."""
    return {baseline.snapshot_id for baseline, _ in _all(root, model)}


def retain(root: Path, model: str, keep: int, referred: set[str]) -> None:
    """Remove all but the `keep` latest baselines by as-of time, but none whose snapshot is in `referred`."""
    for baseline, folder in sorted(_all(root, model), key=lambda pair: pair[0].as_of)[:-keep]:
        if baseline.snapshot_id not in referred:
            _remove(folder)


def withdraw_after(root: Path, model: str, run_id: str, snapshot_id: str) -> list[Baseline]:
    """Remove the baselines of later as-of times than this run's or, if it has none, this snapshot's; return them.

    The next night is then compared with the data that the run's model was trained on. If neither has a baseline, the
    time is not known, and all stay. The result is ordered by time.
    """
    baselines = _all(root, model)
    own = [baseline for baseline, _ in baselines if baseline.run_id == run_id]
    own = own or [baseline for baseline, _ in baselines if baseline.snapshot_id == snapshot_id]
    if not own:
        return []
    last = max(baseline.as_of for baseline in own)
    later = sorted((pair for pair in baselines if pair[0].as_of > last), key=lambda pair: pair[0].as_of)
    for _, folder in later:
        _remove(folder)
    return [baseline for baseline, _ in later]


def withdraw(root: Path, model: str, run_id: str) -> None:
    """Remove this run's earlier baseline, before its data gate runs again."""
    for baseline, folder in _all(root, model):
        if baseline.run_id == run_id:
            _remove(folder)


def _all(root: Path, model: str) -> list[tuple[Baseline, Path]]:
    """Return every baseline of the model that can be read, and its folder.

    One that cannot is left out with a warning: otherwise every later night would fail, and none could replace it.
    """
    paths = (root / model).glob(f"[0-9]*/{Baseline.FILE}")
    return [(baseline, path.parent) for path in paths if (baseline := _load(path))]


def _load(path: Path) -> Baseline | None:
    try:
        return Baseline.load(path)
    except FileNotFoundError:
        return None
    except ContractError as error:
        log.warning("no night is compared with the baseline in %s, because it cannot be read: %s", path, error)
        return None


def _remove(folder: Path) -> None:
    """Remove a baseline. The rename hides it at once; in a bucket it is back if this process dies before `remove`."""
    shutil.rmtree(folder.rename(folder.with_name(f"{REMOVED}{folder.name}")))
    remove(folder)  # for other hosts
