"""Nights that may still need what they have made: no retention takes it from them."""

import datetime as dt
from pathlib import Path

from nightly.records.night import Download, Night, utc_now
from nightly.records.verdict import Verdict
from nightly.state.names import RUNNING

ABANDONED = dt.timedelta(days=30)  # without a change: the night was killed, and nobody has cleared its tasks


def unfinished(nights: Path) -> list[Path]:
    """Return the folders of the nights, below a model's `nights`, that have no verdict yet or run again after it."""
    return [path.parent for path in nights.glob(f"*/{Night.FILE}") if _is_unfinished(path.parent)]


def _is_unfinished(folder: Path) -> bool:
    verdict = folder / Verdict.FILE
    if not verdict.exists():
        changed = max(_changed(path) for path in folder.iterdir())
        return utc_now() - dt.datetime.fromtimestamp(changed, dt.UTC) < ABANDONED
    begun = (folder / Night.FILE, folder / Download.FILE, *folder.glob(f"*{RUNNING}"))
    return any(_changed(path) > _changed(verdict) for path in begun)


def _changed(path: Path) -> float:
    """Return when the file last changed, as Unix seconds; 0 if it does not exist."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # a running node's mark goes when the node ends
        return 0.0
