"""Run a whole night without Airflow, for notebooks and debugging:

    bin/night MODEL [--as-of 2016-03-01] [--release] [--train-steps N] [--fresh] [--source PATH|URL] [--until STEP]

The same steps run in the same order in one process, up to the gate that holds the night. Every step leaves its records
in the night's folder and its artifacts in ML Metadata, as from Airflow, and the verdict is on the page like any other.
The source's connection is in the environment variable AIRFLOW_CONN_<ID>, as a URI or JSON that Airflow could read.

Exit status: 0 the model is accepted or released, 1 a step failed, 2 wrong arguments or configuration, 3 the night is
held or has no data, 4 the model is released but no model server has confirmed it.
"""

import argparse
import getpass
import signal
import sys
import traceback
from collections.abc import Sequence

from nightly.cli.arguments import positive_int
from nightly.cli.errors import Parser, command, one_line
from nightly.io.errors import UserError
from nightly.io.paths import Paths
from nightly.io.scratch import own_temporary_folder
from nightly.io.secrets import has_userinfo, masked
from nightly.nights.plan import RunRequest, new_run_id, plan
from nightly.nights.report import report
from nightly.nights.steps import STEPS
from nightly.records.base import ContractError
from nightly.records.night import Night, utc_now
from nightly.records.release import ReleaseRecord
from nightly.records.verdict import Outcome
from nightly.runtime import worker
from nightly.runtime.whole_night import NightEnd, run_night
from nightly.serving.confirmation import confirmed
from nightly.state import current

STATUS = {Outcome.RELEASED: 0, Outcome.ACCEPTED: 0}  # 3 for the other outcomes
FAILED = 1
READ_SOURCE = ("download", "snapshot")
UNTIL = ("download", *STEPS)


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser("bin/night", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--as-of", help="end of the window, ISO 8601, UTC unless it says otherwise (default: now)")
    parser.add_argument("--release", action="store_true", help="release the model if both gates pass")
    parser.add_argument("--train-steps", type=positive_int)
    parser.add_argument("--fresh", action="store_true", help="compute everything again, reusing no earlier work")
    parser.add_argument("--source", help="another path or URL than the config's")
    parser.add_argument("--until", choices=UNTIL, help="stop after this step, without a verdict unless a gate holds")
    return parser


@command("bin/night")
@own_temporary_folder("night")
def main(args: Sequence[str] | None = None) -> int:
    options = parser().parse_args(args)
    worker.set_up_logging()
    with current().session(options.model) as paths:
        night = _plan(options, paths)
    end = run_night(night, until=options.until)
    if end.error:
        return _failed(end, asked_for_source=options.source is not None)
    with current().session(options.model) as paths:
        return _ended(end, night, paths)


def _ended(end: NightEnd, night: Night, paths: Paths) -> int:
    if end.verdict is None:
        print(f"done: {night.folder(paths)}")
        return 0
    print(report(end.verdict))
    if end.verdict.version and not ReleaseRecord.load(night.folder(paths) / ReleaseRecord.FILE).server:
        return confirmed(paths)
    return STATUS.get(end.verdict.outcome, 3)


def _plan(options: argparse.Namespace, paths: Paths) -> Night:
    """Plan the night and write its request.json. A refused request leaves no folder."""
    if has_userinfo(options.source or ""):
        raise ContractError(
            "--source contains a password, which the night's records would keep: put it into the Airflow connection, "
            "AIRFLOW_CONN_<ID>, that `source.connection` in the model's config.toml names"
        )
    now = utc_now()
    request = RunRequest(
        run_id="",
        trigger="command",
        requested_by=getpass.getuser(),
        time=now,
        as_of=options.as_of,
        release=options.release,
        train_steps=options.train_steps,
        fresh=options.fresh,
        source_address=options.source or "",
    )
    planned = plan(paths, options.model, request, now)
    night = planned.model_copy(update={"run_id": new_run_id(paths, options.model, now)})
    night.save(night.folder(paths) / Night.FILE)
    return night


def _failed(end: NightEnd, asked_for_source: bool) -> int:
    """Report a failed night. Raise the error if it is a user's error about the command's arguments."""
    task, error = end.verdict.failed_task, end.error
    about_arguments = task == "plan" or (asked_for_source and task in READ_SOURCE)
    if isinstance(error, UserError) and about_arguments:
        raise error
    print(report(end.verdict))
    if not isinstance(error, Exception):  # Ctrl-C and SIGTERM
        raise error
    if isinstance(error, UserError):
        print(f"bin/night: error: {task} failed: {masked(one_line(str(error)))}", file=sys.stderr)
    else:
        print(masked("".join(traceback.format_exception(error))), file=sys.stderr)
    return FAILED


def _terminated(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(main())
