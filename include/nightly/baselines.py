"""The statistics of accepted snapshots, which later nights' are compared with: their controls."""

import shutil
from pathlib import Path

from nightly.io.atomic import sync_path
from nightly.io.owned import owned_folder, remove_abandoned
from nightly.io.paths import Paths
from nightly.records.baseline import Baseline, Control
from nightly.records.config import ControlName
from nightly.records.night import Night
from nightly.records.release import ReleaseRecord

NEW, REMOVED = ".new-", ".removed-"  # begin the names of folders that are being made, or removed
SAME_WEEKDAY_WEEKS = range(4, 9)  # far enough for a slow drift to show, near enough for little else to have changed
SAME_SEASON_DAYS = (364, 15)  # 52 weeks, and how far from it


def controls_of(paths: Paths, night: Night, wanted: dict[ControlName, float]) -> list[Control]:
    """Each control that the night's config names, found among what was accepted for earlier as-of times."""
    earlier = _earlier(paths.baselines, night)
    found = []
    for name, factor in wanted.items():
        pair, missing = _FINDERS[name](earlier, night, paths)
        if pair is None:
            found.append(Control(name=name, factor=factor, missing=missing))
        else:
            found.append(Control(name=name, factor=factor, folder=str(pair[1]), baseline=pair[0]))
    return found


def rows_accepted(root: Path, night: Night, count: int = 14) -> list[int]:
    """The rows of the snapshots that were accepted last before this night's as-of time, the newest last."""
    rows = [baseline.rows for baseline, _ in _earlier(root, night) if baseline.rows]
    return rows[-count:]


def _earlier(root: Path, night: Night) -> list[tuple[Baseline, Path]]:
    """What was accepted for as-of times before this night's, whenever it was run; never the night's own. By time."""
    found = [(Baseline.load(path), path.parent) for path in (root / night.model).glob("[0-9]*/baseline.json")]
    earlier = [pair for pair in found if pair[0].as_of < night.as_of and pair[0].run_id != night.run_id]
    return sorted(earlier, key=lambda pair: pair[0].as_of)


Found = tuple[tuple[Baseline, Path] | None, str]


def _last_accepted(earlier: list[tuple[Baseline, Path]], night: Night, paths: Paths) -> Found:
    return (earlier[-1] if earlier else None), "no snapshot from before this night has been accepted yet"


def _production(earlier: list[tuple[Baseline, Path]], night: Night, paths: Paths) -> Found:
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


def _same_weekday(earlier: list[tuple[Baseline, Path]], night: Night, paths: Paths) -> Found:
    wanted = {7 * weeks for weeks in SAME_WEEKDAY_WEEKS}
    matching = [pair for pair in earlier if _days_before(pair[0], night) in wanted]
    weeks = f"{SAME_WEEKDAY_WEEKS[0]} to {SAME_WEEKDAY_WEEKS[-1]} weeks before"
    return (matching[-1] if matching else None), f"no snapshot of the same weekday has been accepted {weeks}"


def _same_season(earlier: list[tuple[Baseline, Path]], night: Night, paths: Paths) -> Found:
    year, room = SAME_SEASON_DAYS
    near = [pair for pair in earlier if abs(_days_before(pair[0], night) - year) <= room]
    nearest = min(near, key=lambda pair: abs(_days_before(pair[0], night) - year), default=None)
    return nearest, "no snapshot has been accepted a year before, give or take two weeks"


def _days_before(baseline: Baseline, night: Night) -> int:
    return round((night.as_of - baseline.as_of).total_seconds() / 86_400)  # clocks change by an hour


_FINDERS = {
    "last_accepted": _last_accepted,
    "production": _production,
    "same_weekday": _same_weekday,
    "same_season": _same_season,
}


def accept(root: Path, baseline: Baseline, statistics: Path) -> Path:
    """Keep a copy of `statistics` (one folder a split) as the baseline; it appears whole or not at all."""
    withdraw(root, baseline.model, baseline.run_id)
    folder = root / baseline.model
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{baseline.as_of:%Y%m%dT%H%M%S}-{baseline.snapshot_id[:12]}"
    if target.exists():  # the same night under another run id found the same data
        return target
    remove_abandoned([*folder.glob(f"{NEW}*"), *folder.glob(f"{REMOVED}*")])
    with owned_folder(folder, NEW) as building:
        shutil.copytree(statistics, building / "whole")
        baseline.save(building / "whole/baseline.json")
        (building / "whole").rename(target)
    sync_path(folder)
    return target


def retain(root: Path, model: str, keep: int, referred: set[str]) -> None:
    """Remove all but the `keep` latest baselines by as-of time, and never one whose snapshot is in `referred`."""
    found = [(Baseline.load(path), path.parent) for path in (root / model).glob("[0-9]*/baseline.json")]
    for baseline, folder in sorted(found, key=lambda pair: pair[0].as_of)[:-keep]:
        if baseline.snapshot_id not in referred:
            _remove(folder)


def withdraw_after(root: Path, model: str, run_id: str, snapshot_id: str) -> list[Baseline]:
    """Forget what was accepted for later as-of times than this run's or, if that accepted nothing, this snapshot's.

    The next night is then compared with what the run's model was trained on. Without a baseline of either, nothing is
    known about the time, and all stay. Gives those withdrawn, oldest first.
    """
    found = [(Baseline.load(path), path.parent) for path in (root / model).glob("[0-9]*/baseline.json")]
    own = [baseline for baseline, _ in found if baseline.run_id == run_id]
    own = own or [baseline for baseline, _ in found if baseline.snapshot_id == snapshot_id]
    if not own:
        return []
    last = max(baseline.as_of for baseline in own)
    later = sorted((pair for pair in found if pair[0].as_of > last), key=lambda pair: pair[0].as_of)
    for _, folder in later:
        _remove(folder)
    return [baseline for baseline, _ in later]


def withdraw(root: Path, model: str, run_id: str) -> None:
    """Forget what this run accepted earlier: it is being judged again."""
    for path in (root / model).glob("[0-9]*/baseline.json"):
        if Baseline.load(path).run_id == run_id:
            _remove(path.parent)


def _remove(folder: Path) -> None:
    """Remove a baseline: it is gone at once, whole, whenever this process dies."""
    shutil.rmtree(folder.rename(folder.with_name(f"{REMOVED}{folder.name}")))
