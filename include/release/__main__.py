"""Look at a model's releases: `python -m include.release list MODEL | show MODEL VERSION | verify MODEL VERSION`.
Or go back to an earlier one: `python -m include.release rollback MODEL VERSION|previous --reason "why"`.
Or see how the canary compares, or end that: `python -m include.release canary MODEL [promote|stop --reason "why"]`.

list      every version ever released: its state, when, by which run, from which snapshot
show      one version's record, as JSON
verify    hash one version's files on disk against its record
rollback  quarantine every version newer than the one given, and move the label `stable` to that first
canary    compare it with production by the labels known now (status; changes nothing), or decide before that is clear
"""

import argparse
import getpass
import logging
import sys
import tempfile
from pathlib import Path

from include.canary.decide import compare, decide
from include.canary.labels import FeedbackError
from include.canary.report import report
from include.contracts.base import ContractError, did_you_mean
from include.contracts.canary import CanaryRequest, Comparison
from include.contracts.places import Places
from include.contracts.release import Rollback
from include.predictions.log import DamagedLogError
from include.release.errors import ReleaseError
from include.release.rollback import REQUEST, parse_version, roll_back
from include.release.store import ReleaseStore


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m include.release", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("list", "show", "verify"):
        command = commands.add_parser(name)
        command.add_argument("model")
        if name != "list":
            command.add_argument("version", type=int)
    command = commands.add_parser("rollback")
    command.add_argument("model")
    command.add_argument("version", help="its number, or `previous`")
    command.add_argument("--reason", required=True, help="stands in the record, and in that of each version taken back")
    command = commands.add_parser("canary")
    command.add_argument("model")
    command.add_argument("action", nargs="?", choices=("status", "promote", "stop"), default="status")
    command.add_argument("--reason", default="", help="stands in the records; needed to promote or stop")
    given = parser.parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    places = Places.from_environment()
    store = ReleaseStore(places.serving, places.releases, given.model)
    try:
        if not store.releases.is_dir() and not store.folder.is_dir():
            released = [path.name for path in places.releases.glob("*/")]
            advice = did_you_mean(given.model, released) if released else ""
            raise ReleaseError(f"nothing was released for {given.model!r} in {places.releases}{advice}")
        if given.command == "list":
            show_all(store)
        elif given.command == "rollback":
            done = _roll_back(places, given)
            withdrawn = ", ".join(map(str, done.withdrawn)) or "none"
            server = f"confirmed by the server at {done.server}" if done.server else "no model server is configured"
            print(f"{done.model} is at {done.version}, before {done.from_version}; quarantined: {withdrawn}; {server}")
        elif given.command == "canary":
            print(_canary(places, given))
        elif given.command == "show":
            print(store.record(given.version).model_dump_json(indent=2))
        else:
            record = store.verify(given.version)
            print(f"{record.path}: {len(record.files)} files, all as released")
    except (ReleaseError, ContractError, DamagedLogError, FeedbackError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _roll_back(places: Places, given: argparse.Namespace) -> Rollback:
    asked = Rollback(
        model=given.model,
        version=parse_version(given.version),
        reason=given.reason,
        requested_by=getpass.getuser(),
    )
    with tempfile.TemporaryDirectory(prefix="rollback-") as folder:
        return roll_back(places, asked.save(Path(folder) / REQUEST))


def _canary(places: Places, given: argparse.Namespace) -> str:
    found = compare(places, given.model)
    if given.action == "status":
        kept = {comparison.version: comparison for comparison in Comparison.all(places, given.model)}
        return report(given.model, kept.get(found.canary.version) if found else None, found)
    asked = CanaryRequest(model=given.model, decision=given.action, reason=given.reason, requested_by=getpass.getuser())
    return report(given.model, decide(places, asked, found), found)


def show_all(store: ReleaseStore) -> None:
    production = store.production()
    print(f"{'version':<12}{'state':<13}{'released (UTC)':<21}{'snapshot':<20}run")
    for record in reversed(store.records()):
        state = "production" if record.version == production else record.state
        row = f"{record.version:<12}{state:<13}{record.released_at:%Y-%m-%d %H:%M:%S}  {record.snapshot_id[:18]:<20}"
        print(row + record.run_id + (f"  ({record.why})" if record.why else ""))


if __name__ == "__main__":
    sys.exit(main())
