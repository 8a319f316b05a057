"""Check the state in a bucket, delete what it no longer needs, or copy a state:

    bin/state check [--content]      compare the bucket's objects with its manifests and lists
    bin/state sweep [--grace HOURS]  delete blobs that no manifest names, and what dead processes left
    bin/state copy FROM TO           from a folder to a bucket, or from a bucket to a folder

NIGHTLY_STATE names the bucket of `check` and `sweep`. Nights may run meanwhile. While a state is copied, none may.

Exit status: 0 done, 1 the bucket is damaged, 2 wrong arguments or configuration.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from nightly.cli.arguments import positive_int
from nightly.cli.errors import Parser, command
from nightly.io import variables
from nightly.state.errors import StateAddressError

GRACE_HOURS = 24


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser("bin/state", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    checking = commands.add_parser("check", help="compare the bucket's objects with its manifests and lists")
    checking.add_argument("--content", action="store_true", help="read and hash every blob, too")
    sweeping = commands.add_parser("sweep", help="delete blobs that no manifest names, and what dead processes left")
    sweeping.add_argument(
        "--grace",
        type=positive_int,
        default=GRACE_HOURS,
        metavar="HOURS",
        help="how old such an object must be (%(default)s)",
    )
    copying = commands.add_parser("copy", help="copy a state from a folder to a bucket, or from a bucket to a folder")
    copying.add_argument("source", metavar="FROM", help="a folder, or s3://bucket/prefix, gs://… or az://…")
    copying.add_argument("target", metavar="TO", help="the other of the two")
    return parser


@command("bin/state")
def main(args: Sequence[str] | None = None) -> int:
    options = parser().parse_args(args)
    return COMMANDS[options.command](options)


def _check(options: argparse.Namespace) -> int:
    from nightly.state.check import check
    from nightly.state.objects import open_objects

    checked = check(open_objects(_address()), content=options.content)
    for problem in checked.problems:
        print(f"error: {problem}", file=sys.stderr)
    print(
        f"{checked.contents:,} contents with {checked.blobs:,} blobs of {checked.bytes / 1e6:,.1f} MB, and "
        f"{checked.records:,} records: {len(checked.problems) or 'no'} problems. "
        f"No manifest names {checked.unused:,} blobs."
    )
    return 1 if checked.problems else 0


def _sweep(options: argparse.Namespace) -> int:
    from nightly.state.objects import open_objects
    from nightly.state.sweep import sweep

    swept = sweep(open_objects(_address()), timedelta(hours=options.grace))
    print(
        f"deleted {swept.blobs:,} blobs of {swept.bytes / 1e6:,.1f} MB, and {swept.abandoned:,} objects that dead "
        f"processes left; {swept.young:,} other blobs that no manifest names are younger than {options.grace} hours"
    )
    return 0


def _copy(options: argparse.Namespace) -> int:
    from nightly.release.shared import arrange
    from nightly.state.copying import to_bucket, to_folder
    from nightly.state.objects import open_objects

    up, down = "://" in options.target, "://" in options.source
    if up == down:
        raise StateAddressError("FROM and TO must be a folder and a bucket, or a bucket and a folder.")
    if up and not Path(options.source).is_dir():
        raise NotADirectoryError(20, "Not a directory", options.source)
    if up:
        copied = to_bucket(Path(options.source).absolute(), open_objects(options.target))
    else:
        target = Path(options.target).absolute()
        copied = to_folder(open_objects(options.source), target)
        arrange(target / "serving", target / "releases")
    print(f"{options.target} has {copied.contents:,} contents and {copied.records:,} records of {options.source}")
    return 0


def _address() -> str:
    address = variables.STATE.read()
    if "://" not in address:
        raise StateAddressError(
            f"{variables.STATE.name} names no bucket; set it to s3://bucket/prefix, gs://… or az://…."
        )
    return address


COMMANDS = {"check": _check, "sweep": _sweep, "copy": _copy}


if __name__ == "__main__":
    sys.exit(main())
