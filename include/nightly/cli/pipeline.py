"""Run a model's nights on another orchestrator than Airflow:

    bin/pipeline compile MODEL --to kubeflow --image IMAGE [--output FILE]   its pipeline, for Kubeflow Pipelines 2
    bin/pipeline run TASK --model MODEL --run RUN [--as-of TIME] [--release yes|no]   one task of a night

NIGHTLY_STATE must name a bucket, which all containers share. `run` is what the compiled pipeline's containers do. It
works on a folder too, task by task in the order of a night, from plan to verdict. Once a gate has held the night, the
later tasks are skipped.

Exit status: 0 done, skipped or held, 1 the task or the night failed, 2 wrong arguments or configuration.
"""

import argparse
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from nightly.cli.errors import Parser, command, one_line
from nightly.io import variables
from nightly.io.atomic import write_atomically
from nightly.io.errors import UserError
from nightly.io.hints import did_you_mean
from nightly.io.scratch import own_temporary_folder
from nightly.io.secrets import masked
from nightly.models import load_config, read_schema_text
from nightly.nights.plan import RunRequest
from nightly.nights.steps import command_tasks_of
from nightly.records.night import utc_now
from nightly.records.tasks import VERDICT
from nightly.records.verdict import Outcome
from nightly.runtime import single_task, worker

FAILED = 1


class NoBucketError(UserError):
    """The state is in a folder, which containers on other hosts cannot reach."""


class NoSuchTaskError(UserError):
    """The model's nights have no task of that name."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser("bin/pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    compiling = commands.add_parser("compile", help="write the model's pipeline")
    compiling.add_argument("model")
    compiling.add_argument("--to", required=True, choices=["kubeflow"])
    compiling.add_argument("--image", required=True, help="the project's image, as the cluster pulls it")
    compiling.add_argument("--output", type=Path, help="default: MODEL-kubeflow.yaml")
    running = commands.add_parser("run", help="run one task of a night")
    running.add_argument("task")
    running.add_argument("--model", required=True)
    running.add_argument("--run", required=True, help="the run's id, the same for all tasks of the night")
    running.add_argument("--as-of", help="of plan: end of the window, ISO 8601 (default: now)")
    running.add_argument("--release", choices=["yes", "no"], default="no", help="of plan: release if both gates pass")
    running.add_argument("--output", action="append", default=[], type=_output, metavar="KEY=FILE")
    return parser


@command("bin/pipeline")
@own_temporary_folder("pipeline")
def main(args: Sequence[str] | None = None) -> int:
    options = parser().parse_args(args)
    return _compile(options) if options.command == "compile" else _run(options)


def _compile(options: argparse.Namespace) -> int:
    config, state = load_config(options.model), variables.STATE.read()
    read_schema_text(config)
    if "://" not in state:
        raise NoBucketError(
            f"the state of {config.name} is the folder {state or variables.VAR.read()}, which containers on other "
            "hosts cannot reach: set NIGHTLY_STATE to s3://…, gs://… or az://…"
        )
    from nightly.tfx.kubeflow import compile_model  # TFX takes 10 s; an error should not wait for it

    output = options.output or Path(f"{config.name}-kubeflow.yaml")
    write_atomically(output, compile_model(config, options.image, state).encode())
    print(output)
    return 0


def _run(options: argparse.Namespace) -> int:
    tasks = [*command_tasks_of(load_config(options.model)), VERDICT]
    if options.task not in tasks:
        hint = did_you_mean(options.task, tasks, otherwise=f"they have, in this order: {', '.join(tasks)}")
        raise NoSuchTaskError(f"the nights of {options.model} have no task {options.task!r}{hint}")
    worker.set_up_logging()
    now = utc_now()
    request = RunRequest(
        run_id=options.run,
        trigger="command",
        requested_by="bin/pipeline",
        time=now,
        as_of=options.as_of or None,
        release=options.release == "yes",
    )
    try:
        verdict = single_task.run(options.task, request, options.model, dict(options.output))
    except UserError as error:
        if options.task == "plan":  # its arguments are wrong
            raise
        print(f"bin/pipeline: error: {options.task} failed: {masked(one_line(str(error)))}", file=sys.stderr)
        return FAILED
    except Exception as error:
        print(masked("".join(traceback.format_exception(error))), file=sys.stderr)
        return FAILED
    return FAILED if verdict and verdict.outcome is Outcome.FAILED else 0


def _output(text: str) -> tuple[str, Path]:
    """Parse KEY=FILE."""
    key, equals, file = text.partition("=")
    if not (key and equals and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=FILE")
    return key, Path(file)


def _terminated(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)  # Kubernetes ends a pod so
    sys.exit(main())
