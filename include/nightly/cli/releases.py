"""Look at a model's releases: `bin/releases list MODEL | show MODEL VERSION | verify MODEL [VERSION]`.
Or go back to an earlier one: `bin/releases rollback MODEL VERSION|previous --reason "why"`.
Or take one away: `bin/releases quarantine MODEL VERSION --reason "why"`.
Or see how the canary compares, or end that: `bin/releases canary MODEL [promote|stop --reason "why"]`.
Or tell the model server again what the records say: `bin/releases serve MODEL`.
Or put whole copies in the place of damaged files: `bin/releases repair MODEL [VERSION]`.
Or release to a bucket that another machine owns: `bin/releases own MODEL --reason "why"`.

list        every version ever released: its state, when, by which run, from which snapshot
show        one version's record, as JSON
verify      compare records, disk, models.config and model server, or one version's files with its record
rollback    quarantine every version newer than the one given, and move the label `stable` to that first
quarantine  take one version out of the server's sight; what is in production without it has the label `stable` first
canary      compare it with production by the labels known now (status; changes nothing), or decide before that is clear
serve       write models.config as the records say, and tell the model server
repair      of every version, or of one, replace what is damaged by copies from the pipeline's artifacts or the bucket
own         make this machine the owner of the model's releases in the bucket of its config

Status: 0 done, 1 refused or a disagreement, 2 wrong arguments, 4 done, and no model server has confirmed it.
"""

import argparse
import getpass
import logging
import sys
import tempfile
from pathlib import Path

from nightly.canary.decide import compare, decide, resolve
from nightly.canary.labels import FeedbackError
from nightly.canary.report import report
from nightly.cli.quarantine import quarantine
from nightly.io.hints import did_you_mean
from nightly.io.paths import Places
from nightly.models import load_config
from nightly.prediction_log import DamagedLogError
from nightly.records.base import ContractError
from nightly.records.canary import CanaryRequest
from nightly.records.release import Rollback
from nightly.release.errors import DamagedError, NotConfirmed, ReleaseError
from nightly.release.repair import describe, repair
from nightly.release.store import ReleaseStore
from nightly.release.versions import LIVE
from nightly.serving.agreement import ask_server, disagreements
from nightly.serving.confirmation import NOT_CONFIRMED, confirmed
from nightly.serving.rollback import REQUEST, parse_version, roll_back
from nightly.serving.server import find_server


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        "python -m nightly.cli.releases", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("list", "show", "verify", "serve", "repair"):
        command = commands.add_parser(name)
        command.add_argument("model")
        if name in ("show", "verify", "repair"):
            command.add_argument("version", type=int, nargs="?" if name != "show" else None)
    command = commands.add_parser("rollback")
    command.add_argument("model")
    command.add_argument("version", help="its number, or `previous`")
    command.add_argument("--reason", required=True, help="stands in the record, and in that of each version taken back")
    command = commands.add_parser("own")
    command.add_argument("model")
    command.add_argument("--reason", required=True, help="stands in the bucket's index")
    command = commands.add_parser("quarantine")
    command.add_argument("model")
    command.add_argument("version", type=int)
    command.add_argument("--reason", required=True, help="stands in its record")
    command = commands.add_parser("canary")
    command.add_argument("model")
    command.add_argument("action", nargs="?", choices=("status", "promote", "stop"), default="status")
    command.add_argument("--reason", default="", help="stands in the records; needed to promote or stop")
    return parser


def main(arguments: list[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    places = Places.from_environment()
    store = ReleaseStore(places.serving, places.releases, given.model)
    try:
        if not store.disk.releases.is_dir() and not store.disk.folder.is_dir():
            released = [path.name for path in places.releases.glob("*/")]
            advice = did_you_mean(given.model, released) if released else ""
            raise ReleaseError(f"nothing was released for {given.model!r} in {places.releases}{advice}")
        if store.disk.undecided():
            for record in store.settle(find_server(places, given.model, load_config(given.model).release)):
                print(f"{given.model} {record.version} is out of sight: its release died", file=sys.stderr)
        return COMMANDS[given.command](places, store, given)
    except NotConfirmed as error:
        print(f"{error}. When it is back: bin/releases serve {given.model}", file=sys.stderr)
        return NOT_CONFIRMED
    except (ReleaseError, ContractError, DamagedLogError, FeedbackError) as error:
        print(error, file=sys.stderr)
        return 1


def _show_all(places: Places, store: ReleaseStore, given: argparse.Namespace) -> int:
    show_all(store)
    return 0


def _show(places: Places, store: ReleaseStore, given: argparse.Namespace) -> int:
    print(store.disk.record(given.version).model_dump_json(indent=2))
    return 0


def _verify(places: Places, store: ReleaseStore, given: argparse.Namespace) -> int:
    if given.version is not None:
        record = store.disk.verify(given.version)
        print(f"{record.path}: {len(record.files)} files, all as released")
        return 0
    server = ask_server(places, store)
    wrong = [*disagreements(places, store), *server.disagreements]
    for each in wrong:
        print(f"{each.what}\n  what to do: {each.action}", file=sys.stderr)
    if wrong:
        return 1
    if server.problem:
        print(f"the model server does not answer at {server.address}: {server.problem}", file=sys.stderr)
    agreed = "records, disk and models.config" if server.problem or not server.address else "all four"
    print(f"{given.model} is at {store.disk.production() or 'nothing'}; {agreed} agree")
    return NOT_CONFIRMED if server.problem else confirmed(places)


def _roll_back(places: Places, store: ReleaseStore, given: argparse.Namespace) -> int:
    done = _rolled_back(places, given)
    withdrawn = ", ".join(map(str, done.withdrawn)) or "none"
    server = f"confirmed by the server at {done.server}" if done.server else "confirmed by no model server"
    print(f"{done.model} is at {done.version}, before {done.from_version}; quarantined: {withdrawn}; {server}")
    return confirmed(places)


def _quarantine(places: Places, store: ReleaseStore, given: argparse.Namespace) -> int:
    print(quarantine(places, given.model, given.version, by=getpass.getuser(), reason=given.reason))
    return confirmed(places)


def _canary(places: Places, store: ReleaseStore, given: argparse.Namespace) -> int:
    print(_compared(places, given))
    return 0 if given.action == "status" else confirmed(places)


def _serve(places: Places, store: ReleaseStore, given: argparse.Namespace) -> int:
    server = find_server(places, given.model, load_config(given.model).release)
    store.serve(server=server)
    confirmation = f"the server at {server.address} has it" if server.address else "no model server was told"
    print(f"models.config has {given.model} at {store.disk.production() or 'nothing'}; {confirmation}")
    return confirmed(places)


def _repair(places: Places, store: ReleaseStore, given: argparse.Namespace) -> int:
    config, status = load_config(given.model), 0
    versions = [given.version] if given.version else [r.version for r in store.disk.records() if r.state in LIVE]
    for version in versions:
        try:
            repaired = repair(places, config, version)
        except DamagedError as error:
            print(
                f"{error}\n  what to do: restore it from a backup; until then nights are judged by model_gate."
                f"damaged_production, and the next release supersedes it. Or bin/releases quarantine {given.model} "
                f"{version} --reason damaged",
                file=sys.stderr,
            )
            status = 1
        else:
            what = f"repaired: {describe(repaired)}" if repaired else "is as it was released"
            print(f"{given.model} {version} {what}")
    return status


def _own(places: Places, store: ReleaseStore, given: argparse.Namespace) -> int:
    config = load_config(given.model)
    if not config.release.gcs:
        raise ReleaseError(f"{given.model} is released to no bucket: its config.toml has no release.gcs")
    from nightly.release.google_cloud.gcs import GcsReleases

    bucket = GcsReleases(config.release.gcs, given.model, store)
    owner = bucket.own(by=getpass.getuser(), reason=given.reason)
    print(f"{bucket.address} is the place of {owner.machine.host} ({owner.machine.folder}) from now on")
    return 0


COMMANDS = {
    "list": _show_all,
    "show": _show,
    "verify": _verify,
    "rollback": _roll_back,
    "quarantine": _quarantine,
    "canary": _canary,
    "serve": _serve,
    "repair": _repair,
    "own": _own,
}


def _rolled_back(places: Places, given: argparse.Namespace) -> Rollback:
    asked = Rollback(
        model=given.model,
        version=parse_version(given.version),
        reason=given.reason,
        requested_by=getpass.getuser(),
    )
    with tempfile.TemporaryDirectory(prefix="rollback-") as folder:
        return roll_back(places, asked.save(Path(folder) / REQUEST))


def _compared(places: Places, given: argparse.Namespace) -> str:
    found = compare(places, given.model)
    action = "auto" if given.action == "status" else given.action
    asked = CanaryRequest(model=given.model, decision=action, reason=given.reason, requested_by=getpass.getuser())
    settle = resolve if given.action == "status" else decide
    return report(given.model, settle(places, asked, found), found)


def show_all(store: ReleaseStore) -> None:
    production = store.disk.production()
    print(f"{'version':<12}{'state':<13}{'released (UTC)':<21}{'snapshot':<20}run")
    for record in reversed(store.disk.records()):
        state = "production" if record.version == production else record.state
        row = f"{record.version:<12}{state:<13}{record.released_at:%Y-%m-%d %H:%M:%S}  {record.snapshot_id[:18]:<20}"
        print(row + record.run_id + (f"  ({record.why})" if record.why else ""))


if __name__ == "__main__":
    sys.exit(main())
