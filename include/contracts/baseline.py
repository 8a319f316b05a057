"""The statistics of an accepted snapshot, which the next night's are compared with."""

import shutil
import tempfile
from pathlib import Path

from pydantic import AwareDatetime

from include.contracts.base import Contract, sync_folder
from include.contracts.night import Night


class Baseline(Contract):
    """<baselines>/<model>/<as of>-<snapshot>/baseline.json, beside the statistics (a folder a split)."""

    model: str
    run_id: str
    as_of: AwareDatetime
    snapshot_id: str
    accepted_at: AwareDatetime


def last_accepted(root: Path, night: Night) -> tuple[Baseline, Path] | None:
    """The latest accepted baseline from before this night's as-of time, whenever it was run; never the night's own."""
    found = [(Baseline.load(path), path.parent) for path in (root / night.model).glob("[0-9]*/baseline.json")]
    earlier = [pair for pair in found if pair[0].as_of < night.as_of and pair[0].run_id != night.run_id]
    return max(earlier, key=lambda pair: pair[0].as_of, default=None)


def accept(root: Path, baseline: Baseline, statistics: Path) -> Path:
    """Keep a copy of `statistics` (one folder a split) as the baseline; it appears whole or not at all."""
    withdraw(root, baseline.model, baseline.run_id)
    folder = root / baseline.model
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{baseline.as_of:%Y%m%dT%H%M%S}-{baseline.snapshot_id[:12]}"
    if target.exists():  # the same night under another run id found the same data
        return target
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".new-"))
    shutil.copytree(statistics, temporary, dirs_exist_ok=True)
    baseline.save(temporary / "baseline.json")
    temporary.chmod(0o755)
    temporary.rename(target)
    sync_folder(folder)
    return target


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
        hidden = folder.rename(folder.with_name(f".withdrawn-{folder.name}"))  # gone at once, whole
        shutil.rmtree(hidden)
    return [baseline for baseline, _ in later]


def withdraw(root: Path, model: str, run_id: str) -> None:
    """Forget what this run accepted earlier: it is being judged again."""
    for path in (root / model).glob("[0-9]*/baseline.json"):
        if Baseline.load(path).run_id == run_id:
            shutil.rmtree(path.parent)
