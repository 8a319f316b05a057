"""Runs and measures the steps of a night without Airflow, each in a fork, as the warm host does."""

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

from benchmarks import complaints
from benchmarks.common import Measured, forked
from nightly.io.paths import Paths
from nightly.models import load_config, window_end
from nightly.nights.steps import DATA_STEPS
from nightly.records.night import Night, utc_now
from nightly.sources import fetch

AS_OF = dt.datetime.combine(complaints.FIRST_DAY + dt.timedelta(days=1), dt.time(), dt.UTC)
TO_DATA_GATE = DATA_STEPS[1:]


def planned(folder: Path, rows: int, steps: int, model: str = "complaints") -> Night:
    """Plan a night over `rows` new complaints and download them, under `folder`."""
    paths, config = paths_of(folder), load_config(model)
    source = folder / "source" / "complaints.csv"
    if not source.exists():
        forked(lambda: complaints.write(source, rows, seed=rows, last_day=complaints.FIRST_DAY))
    night = Night(
        model=model,
        run_id="benchmark",
        trigger="command",
        requested_by="benchmark",
        as_of=AS_OF,
        window_start=config.data.window_start(AS_OF),
        release=False,
        train_steps=steps,
        code_version="",
        planned_at=utc_now(),
    )
    night.save(night.folder(paths) / "request.json")
    download = fetch(
        config.source,
        address=str(source),
        window_start=night.window_start,
        window_end=window_end(night),
        folder=paths.downloads / model,
    )
    download.save(night.folder(paths) / "download.json")
    return night


def paths_of(folder: Path) -> Paths:
    return Paths.from_environment({"NIGHTLY_VAR": str(folder / "var")})


def run(folder: Path, night: Night, names: Iterable[str]) -> dict[str, Measured]:
    """Run the steps `names` in order; return the measurements of each. Raise ForkFailed with the step's error."""
    return {name: forked(_step, name, folder, night, log=folder / f"{name}.log") for name in names}


def _step(name: str, folder: Path, night: Night) -> object:
    from nightly.runtime import worker

    worker.set_up_logging()
    paths = paths_of(folder)
    return worker.step_function(name)(night.folder(paths), paths)
