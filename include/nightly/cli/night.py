"""A whole night without Airflow, for notebooks and debugging:

    python -m nightly.cli.night MODEL [--as-of 2016-03-01] [--release] [--train-steps N] [--fresh] [--source …]

The same steps in the same order in one process, stopping where a gate holds the night. `--until STEP` stops after
a step; what each found lies in the night's folder, and the pipeline's artifacts in ML Metadata as from Airflow. Ends
with 0 when the model is accepted or released, with 3 when the night is held or has no data, with 2 when what is asked
for cannot be done, and with 1 when a step fails; the verdict is on the page like any other night's.
"""

import argparse
import contextlib
import datetime as dt
import getpass
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from nightly.cli.arguments import positive_int
from nightly.io.code import code_version
from nightly.io.paths import Places
from nightly.models import config_of, load_config, read_schema_text, window_end
from nightly.nights.as_of import read_as_of
from nightly.nights.report import report
from nightly.nights.space import check_night
from nightly.nights.verdict import decide
from nightly.records.base import ContractError
from nightly.records.night import Night, StepError, utc_now
from nightly.records.release import NOT_RELEASED, NotReleased, ReleaseRecord
from nightly.records.verdict import Outcome, Verdict
from nightly.release.store import ReleaseStore
from nightly.runtime import worker
from nightly.schemas.store import SchemaStore
from nightly.serving.confirmation import confirmed
from nightly.sources import fetch

STEPS = [
    *("snapshot", "examples", "statistics", "schema", "example_validator", "drift_skew", "data_gate"),
    *("transform", "trainer", "evaluator", "model_gate", "infra_validator", "release"),
]
TASKS = ["plan", "download", *STEPS]
STATUS = {Outcome.RELEASED: 0, Outcome.ACCEPTED: 0}  # 3 for the others: nothing broke, and nothing is released


def plan(arguments: argparse.Namespace, places: Places) -> Night:
    """The night that the command line asks for, with its folder and request.json. Raises ContractError."""
    config, now = load_config(arguments.model), utc_now()
    read_schema_text(config)
    end = read_as_of(arguments.as_of, now) if arguments.as_of else now
    if not arguments.as_of and config.source.ended_on:
        end = min(end, dt.datetime.combine(config.source.ended_on, dt.time(), dt.UTC))
    schemas = SchemaStore(places, config.name)
    night = Night(
        model=config.name,
        trigger="command",
        requested_by=getpass.getuser(),
        as_of=end,
        window_start=config.data.window_start(end),
        release=arguments.release,
        train_steps=config.training.steps if arguments.train_steps is None else arguments.train_steps,
        fresh=arguments.fresh,
        code_version=code_version(),
        production_version=_store(places, config.name).disk.production(),
        schema_version=schemas.current(),
        schema_note=schemas.note(schemas.current()),
        planned_at=now,
        run_id=_new_run(places, config.name, now),  # last: what is refused above leaves no folder
    )
    night.save(night.folder(places) / "request.json")
    return night


def _new_run(places: Places, model: str, now: dt.datetime) -> str:
    """Return a run id that no other night of the model has, and make its folder: two may start in one second."""
    second = f"command__{now:%Y%m%dT%H%M%S}"
    run_id, number = second, 1
    while True:
        try:
            places.night(model, run_id).mkdir(parents=True)
            return run_id
        except FileExistsError:
            number += 1
            run_id = f"{second}_{number}"


def _store(places: Places, model: str) -> ReleaseStore:
    return ReleaseStore(places.serving, places.releases, model)


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(prog="python -m nightly.cli.night", description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--as-of", help="end of the window, ISO 8601, UTC unless it says otherwise (default: now)")
    parser.add_argument("--release", action="store_true", help="release the model if both gates pass")
    parser.add_argument("--train-steps", type=positive_int)
    parser.add_argument("--fresh", action="store_true", help="compute everything anew, reusing no earlier work")
    parser.add_argument("--source", help="another path or URL than the config's")
    parser.add_argument("--until", choices=STEPS, help="stop after this step, without a verdict unless a gate holds")
    return parser


def main(words: list[str]) -> int:
    arguments = parser().parse_args(words)
    worker.set_up_logging()
    places = Places.from_environment()
    try:
        night = plan(arguments, places)
    except ContractError as error:
        print(error, file=sys.stderr)
        return 2
    states: dict[str, str | None] = dict.fromkeys(TASKS)
    for task in TASKS:
        try:
            states[task], go_on = _do(task, night, places, arguments.source)
        except BaseException as error:  # whatever ends the night, Ctrl-C too, is in its verdict
            states[task] = "failed"
            errors = {task: _record(task, error, night.folder(places))}
            verdict = _conclude(night, places, states, errors)
            if task == "plan" and isinstance(error, ContractError):
                print(error, file=sys.stderr)
                return 2
            print(report(verdict))
            raise
        if not go_on:
            break
        if task == arguments.until:
            print(f"done: {night.folder(places)}")
            return 0
    verdict = _conclude(night, places, states)
    print(report(verdict))
    if verdict.version and not ReleaseRecord.load(night.folder(places) / "release.json").server:
        return confirmed(places)
    return STATUS.get(verdict.outcome, 3)


def _do(task: str, night: Night, places: Places, source: str | None) -> tuple[str, bool]:
    """Run one task of the night: its state, as the orchestrator would have it, and whether the night goes on."""
    folder = night.folder(places)
    if task == "plan":
        check_night(places, night.model)
        if config_of(night).pipeline.engine == "beam":
            worker.step_function("nightly.engines.beam:check")(folder, places)
        if night.production_version is not None:
            worker.step_function("nightly.tfx.production:prepare")(folder, places)
        return "success", True
    if task == "download":
        _download(night, places, source)
        return "success", True
    if task == "release" and not _to_be_released(night, places):
        return "skipped", False
    found = worker.step_function(task)(folder, places)
    if task == "release" and (folder / NOT_RELEASED).exists():  # it is a version already
        return "skipped", False
    return "success", found.get("passed") is not False and not (task == "snapshot" and not found["rows"])


def _download(night: Night, places: Places, source: str | None) -> None:
    fetch(
        load_config(night.model).source,
        address=source,
        headers=None,
        window_start=night.window_start,
        window_end=window_end(night),
        folder=places.downloads / night.model / night.folder(places).name,
    ).save(night.folder(places) / "download.json")


def _to_be_released(night: Night, places: Places) -> bool:
    waits_for = _store(places, night.model).disk.waits_for(night.run_id)
    if night.release and waits_for:
        NotReleased(reason=waits_for, decided_at=utc_now()).save(night.folder(places) / NOT_RELEASED)
    return night.release and not waits_for


def _record(task: str, error: BaseException, folder: Path) -> str:
    """Return why a task failed, for the verdict to quote, and keep it in the night's folder."""
    stopped = {KeyboardInterrupt: "it was interrupted (Ctrl-C)", SystemExit: "it was terminated (SIGTERM)"}
    message = stopped.get(type(error)) or str(error) or type(error).__name__
    with _logged_when_full():
        StepError(task=task, message=message, try_number=1, failed_at=utc_now()).save(folder / f"{task}.error.json")
    return message


def _conclude(
    night: Night, places: Places, states: dict[str, str | None], errors: dict[str, str] | None = None
) -> Verdict:
    """Decide what became of the night, and keep that as from Airflow."""
    folder = night.folder(places)
    production = _store(places, night.model).disk.production()
    verdict = decide(night.model, night.run_id, folder, states, errors=errors, production=production)
    with _logged_when_full():
        verdict.save(folder / "verdict.json")
    return verdict


@contextlib.contextmanager
def _logged_when_full() -> Iterator[None]:
    """Log that a record cannot be written, as on a full disk: what it says is printed all the same."""
    try:
        yield
    except OSError as error:
        worker.log.error("a record cannot be written: %s", error)


def _terminated(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(main(sys.argv[1:]))
