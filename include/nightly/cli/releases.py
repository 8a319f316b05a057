"""Show a model's releases, and change what is in production:

    bin/releases list MODEL                                   every version: its state, when, by which run
    bin/releases show MODEL VERSION                           its record, as JSON
    bin/releases verify MODEL [VERSION]                       compare records, disk, models.config and model server
    bin/releases rollback MODEL VERSION|previous --reason WHY  quarantine every newer version
    bin/releases quarantine MODEL VERSION --reason WHY        withdraw one version for good
    bin/releases canary MODEL [promote|stop --reason WHY]     compare the canary with production, or decide now
    bin/releases serve MODEL                                  write models.config, and tell the model server
    bin/releases repair MODEL [VERSION]                       replace damaged files by intact copies
    bin/releases own MODEL --reason WHY                       make this machine the owner of the releases in the bucket

A rollback moves the label `stable` first; so does a quarantine of the version in production. `verify` of one version
compares its files with its record. `repair` copies from the pipeline's artifacts or the bucket.

Exit status: 0 done, 1 a disagreement or damaged files, 2 wrong arguments or configuration, or refused with nothing
changed, 4 done, but no model server has confirmed it, or release.gcs or Vertex AI is not updated.
"""

import argparse
import getpass
import logging
import sys
from collections.abc import Sequence

from nightly.canary.decide import compare, decide, resolve
from nightly.canary.quarantine import quarantine
from nightly.canary.report import report
from nightly.cli.errors import Parser, command, one_line
from nightly.io.paths import Paths
from nightly.io.tables import print_table
from nightly.models import load_config
from nightly.records.canary import CanaryRequest
from nightly.records.release import Rollback
from nightly.release.errors import DamagedError, NotConfirmed, NotPublished, ReleaseError
from nightly.release.find import store_of
from nightly.release.repair import describe, repair
from nightly.release.store import ReleaseStore
from nightly.release.versions import LIVE
from nightly.serving.agreement import ask_server, disagreements
from nightly.serving.confirmation import NOT_CONFIRMED, confirmed
from nightly.serving.rollback import parse_version, roll_back_now
from nightly.serving.server import find_server
from nightly.state import current


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser("bin/releases", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, reason: str = "") -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=text, description=text)
        subparser.add_argument("model")
        if reason:
            subparser.add_argument("--reason", required=True, help=reason)
        return subparser

    add("list", "every version ever released: its state, when, by which run, from which snapshot")
    add("show", "one version's record, as JSON").add_argument("version", type=int)
    verify = add("verify", "compare records, disk, models.config and model server; or one version with its record")
    verify.add_argument("version", type=int, nargs="?")
    rollback = add("rollback", "quarantine every newer version", "why; recorded with the withdrawn versions")
    rollback.add_argument("version", help="its number, or `previous`")
    quarantining = add("quarantine", "withdraw one version for good", "why; recorded with the version")
    quarantining.add_argument("version", type=int)
    canary = add("canary", "compare the canary with production, or decide now")
    canary.add_argument("action", nargs="?", choices=("status", "promote", "stop"), default="status")
    canary.add_argument("--reason", default="", help="why; required to promote or stop")
    add("serve", "write models.config as the records say, and tell the model server")
    add("repair", "replace damaged files by intact copies").add_argument("version", type=int, nargs="?")
    add("own", "make this machine the owner of the releases in the bucket", "why; recorded in the bucket's index")
    return parser


@command("bin/releases")
def main(args: Sequence[str] | None = None) -> int:
    options = parser().parse_args(args)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    with current().session(options.model) as paths:
        return _run(paths, options)


def _run(paths: Paths, options: argparse.Namespace) -> int:
    store = store_of(paths, options.model)
    try:
        if store.disk.undecided():
            for record in store.settle(find_server(paths, options.model, load_config(options.model).release)):
                print(f"{options.model} {record.version} is out of sight: its release died", file=sys.stderr)
        return COMMANDS[options.command](paths, store, options)
    except NotConfirmed as error:
        print(f"{error}. When it is back: bin/releases serve {options.model}", file=sys.stderr)
        return NOT_CONFIRMED
    except NotPublished as error:
        print(one_line(str(error)), file=sys.stderr)
        return NOT_CONFIRMED


def _list(paths: Paths, store: ReleaseStore, options: argparse.Namespace) -> int:
    production = store.disk.production()
    rows = [
        (
            str(record.version),
            "production" if record.version == production else record.state,
            f"{record.released_at:%Y-%m-%d %H:%M:%S}",
            record.snapshot_id[:18],
            record.run_id + (f"  ({record.why})" if record.why else ""),
        )
        for record in reversed(store.disk.records())
    ]
    print_table(["version", "state", "released (UTC)", "snapshot", "run"], rows)
    return 0


def _show(paths: Paths, store: ReleaseStore, options: argparse.Namespace) -> int:
    print(store.disk.record(options.version).model_dump_json(indent=2))
    return 0


def _verify(paths: Paths, store: ReleaseStore, options: argparse.Namespace) -> int:
    if options.version is not None:
        record = store.disk.verify(options.version)
        print(f"{record.path}: {len(record.files)} files, all as released")
        return 0
    server = ask_server(paths, store)
    wrong = [*disagreements(paths, store), *server.disagreements]
    for each in wrong:
        print(f"{each.what}\n  what to do: {each.action}", file=sys.stderr)
    if wrong:
        return 1
    if server.problem:
        print(f"the model server does not answer at {server.address}: {server.problem}", file=sys.stderr)
    agreed = "records, disk and models.config" if server.problem or not server.address else "all four"
    print(f"{options.model} is at {store.disk.production() or 'nothing'}; {agreed} agree")
    return NOT_CONFIRMED if server.problem else confirmed(paths)


def _roll_back(paths: Paths, store: ReleaseStore, options: argparse.Namespace) -> int:
    version, by = parse_version(options.version), getpass.getuser()
    done = roll_back_now(paths, Rollback(model=options.model, version=version, reason=options.reason, requested_by=by))
    withdrawn = ", ".join(map(str, done.withdrawn)) or "none"
    server = f"confirmed by the server at {done.server}" if done.server else "confirmed by no model server"
    print(f"{done.model} is at {done.version}, before {done.from_version}; quarantined: {withdrawn}; {server}")
    return confirmed(paths)


def _quarantine(paths: Paths, store: ReleaseStore, options: argparse.Namespace) -> int:
    print(quarantine(paths, options.model, options.version, by=getpass.getuser(), reason=options.reason))
    return confirmed(paths)


def _canary(paths: Paths, store: ReleaseStore, options: argparse.Namespace) -> int:
    print(_compared(paths, options))
    return 0 if options.action == "status" else confirmed(paths)


def _serve(paths: Paths, store: ReleaseStore, options: argparse.Namespace) -> int:
    server = find_server(paths, options.model, load_config(options.model).release)
    store.serve(server=server)
    confirmation = f"the server at {server.address} has it" if server.address else "no model server is known"
    print(f"models.config has {options.model} at {store.disk.production() or 'nothing'}; {confirmation}")
    return confirmed(paths)


def _repair(paths: Paths, store: ReleaseStore, options: argparse.Namespace) -> int:
    config, status = load_config(options.model), 0
    versions = [options.version] if options.version else [r.version for r in store.disk.records() if r.state in LIVE]
    for version in versions:
        try:
            repaired = repair(paths, config, version)
        except DamagedError as error:
            print(
                f"{error}\n  what to do: restore it from a backup; until then nights are judged by model_gate."
                f"damaged_production, and the next release supersedes it. Or bin/releases quarantine {options.model} "
                f"{version} --reason damaged",
                file=sys.stderr,
            )
            status = 1
        else:
            result = f"repaired: {describe(repaired)}" if repaired else "is as it was released"
            print(f"{options.model} {version} {result}")
    return status


def _own(paths: Paths, store: ReleaseStore, options: argparse.Namespace) -> int:
    config = load_config(options.model)
    if not config.release.gcs:
        raise ReleaseError(f"{options.model} is released to no bucket: its config.toml has no release.gcs")
    from nightly.release.google_cloud.gcs import GcsReleases

    try:
        bucket = GcsReleases(config.release.gcs, options.model, store)
        owner = bucket.own(by=getpass.getuser(), reason=options.reason)
    except NotPublished as error:  # nothing has changed here either
        raise ReleaseError(f"{config.release.gcs} gets no other owner: {error.__cause__ or error}") from error
    print(f"{bucket.address} belongs to {owner.machine.host} ({owner.machine.folder}) from now on")
    return 0


COMMANDS = {
    "list": _list,
    "show": _show,
    "verify": _verify,
    "rollback": _roll_back,
    "quarantine": _quarantine,
    "canary": _canary,
    "serve": _serve,
    "repair": _repair,
    "own": _own,
}


def _compared(paths: Paths, options: argparse.Namespace) -> str:
    look = compare(paths, options.model)
    action = "auto" if options.action == "status" else options.action
    request = CanaryRequest(model=options.model, decision=action, reason=options.reason, requested_by=getpass.getuser())
    conclude = resolve if options.action == "status" else decide
    return report(options.model, conclude(paths, request, look), look)


if __name__ == "__main__":
    sys.exit(main())
