"""A whole night without Airflow, for notebooks and debugging:

    python -m include.pipeline.night MODEL [--as-of 2016-03-01] [--release] [--train-steps N] [--fresh] [--source …]

The same steps in the same order in one process, stopping where a gate holds the night. `--until STEP` stops after
a step; what each found lies in the night's folder, and the pipeline's artifacts in ML Metadata as from Airflow.
"""

import argparse
import datetime as dt
import getpass
import sys

from include.arguments import positive_int
from include.contracts.base import ContractError
from include.contracts.code import code_version
from include.contracts.columns import read_schema_text
from include.contracts.config import load_config
from include.contracts.night import Night, SnapshotRef, utc_now
from include.contracts.places import Places
from include.contracts.release import NOT_RELEASED, NotReleased
from include.night_space import check_night
from include.pipeline import worker
from include.release.confirmation import confirmed
from include.release.store import ReleaseStore
from include.schemas.store import SchemaStore
from include.sources import fetch
from include.space import SpaceError

STEPS = [
    *("snapshot", "examples", "statistics", "schema", "example_validator", "drift_skew", "data_gate"),
    *("transform", "trainer", "evaluator", "model_gate", "infra_validator", "release"),
]


def plan(arguments: argparse.Namespace, places: Places) -> Night:
    """The night that the command line asks for, with its folder and request.json."""
    config = load_config(arguments.model)
    read_schema_text(config)
    end = dt.datetime.fromisoformat(arguments.as_of) if arguments.as_of else utc_now()
    if end.tzinfo is None:
        end = end.replace(tzinfo=dt.UTC)
    if not arguments.as_of and config.source.ended_on:
        end = min(end, dt.datetime.combine(config.source.ended_on, dt.time(), dt.UTC))
    now, schemas = utc_now(), SchemaStore(places, config.name)
    night = Night(
        model=config.name,
        run_id=f"command__{now:%Y%m%dT%H%M%S}",
        trigger="command",
        requested_by=getpass.getuser(),
        as_of=end,
        window_start=config.data.window_start(end),
        release=arguments.release,
        train_steps=config.training.steps if arguments.train_steps is None else arguments.train_steps,
        fresh=arguments.fresh,
        code_version=code_version(),
        production_version=_store(places, config.name).production(),
        schema_version=schemas.current(),
        schema_note=schemas.note(schemas.current()),
        planned_at=now,
    )
    night.save(night.folder(places) / "request.json")
    return night


def _store(places: Places, model: str) -> ReleaseStore:
    return ReleaseStore(places.serving, places.releases, model)


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m include.pipeline.night", description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--as-of", help="end of the window, ISO 8601, UTC unless it says otherwise (default: now)")
    parser.add_argument("--release", action="store_true", help="release the model if both gates pass")
    parser.add_argument("--train-steps", type=positive_int)
    parser.add_argument("--fresh", action="store_true", help="compute everything anew, reusing no earlier work")
    parser.add_argument("--source", help="another path or URL than the config's")
    parser.add_argument("--until", choices=STEPS, help="stop after this step")
    arguments = parser.parse_args(words)
    worker.set_up_logging()
    places = Places.from_environment()
    try:
        check_night(places, load_config(arguments.model).name)
        night = plan(arguments, places)
        folder = night.folder(places)
        if night.config().pipeline.engine == "beam":
            worker.step_function("include.pipeline.beam:check")(folder, places)
    except (ContractError, SpaceError) as error:
        print(error, file=sys.stderr)
        return 2
    download = fetch(
        load_config(night.model).source,
        address=arguments.source,
        headers=None,
        window_start=night.window_start,
        window_end=night.window_end,
        folder=places.downloads / night.model / folder.name,
    )
    download.save(folder / "download.json")
    for step in STEPS if night.release else STEPS[:-1]:
        if step == "release" and (waits_for := _store(places, night.model).waits_for(night.run_id)):
            print(f"ACCEPTED, not released: {waits_for}")
            break
        found = worker.step_function(step)(folder, places)
        if step == "snapshot" and not found["rows"]:
            print(f"NO_DATA: {SnapshotRef.load(folder / 'snapshot.json').no_data(night)}")
            return 3
        if found.get("passed") is False:
            held = [reason for reason in found["reasons"] if reason["held"]]
            print(f"HELD by the {found['gate']} gate:", *(f"  {reason['message']}" for reason in held), sep="\n")
            return 3
        if step == arguments.until:
            break
    print(f"done: {folder}")
    if (folder / NOT_RELEASED).exists():
        not_released = NotReleased.load(folder / NOT_RELEASED)
        print(f"not released: {not_released.reason}")
        return 3 if not_released.withdrawn else 0
    unconfirmed = "version" in found and not found.get("server")  # of the release record
    return confirmed(places) if unconfirmed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
