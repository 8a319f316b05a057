"""Upload predictions that clients have logged on this host, and later labels, to the bucket of the shared state:

    bin/predictions push taxi --from /var/log/predictions --watch 60 --delete
    bin/predictions labels taxi labels.csv

The checks of serving skew and the comparison of a canary read both there. `push` uploads only complete files, each
once. It needs no TensorFlow and no database.
"""

import argparse
import errno
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nightly.cli.arguments import positive_number
from nightly.cli.errors import Parser, command, describe
from nightly.io.errors import UserError
from nightly.io.paths import Paths
from nightly.prediction_log import files
from nightly.state import current

COMMAND = "bin/predictions"

log = logging.getLogger("nightly")


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser(COMMAND, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    push = commands.add_parser("push", help="upload the complete files of a prediction log")
    push.add_argument("model")
    push.add_argument("--from", dest="folder", type=Path, help="the folder where clients log; default: predictions/")
    push.add_argument("--delete", action="store_true", help="delete each local file once the bucket has it")
    push.add_argument(
        "--watch", type=positive_number, metavar="SECONDS", help="repeat until stopped; failures are tried again"
    )
    labels = commands.add_parser("labels", help="upload files of labels: Parquet or CSV with the columns id and label")
    labels.add_argument("model")
    labels.add_argument("file", type=Path, nargs="+")
    return parser


@command(COMMAND)
def main(args: Sequence[str] | None = None) -> int:
    options = parser().parse_args(args)
    logging.basicConfig(format="%(asctime)s %(levelname)s: %(message)s", level=logging.INFO)
    paths = Paths.from_environment()
    if options.command == "labels":
        for file in options.file:
            current().send(file, paths.feedback / options.model)
        return 0
    folder = options.folder or paths.predictions / options.model
    sent: set[str] = set()
    while options.watch is not None:
        try:
            push(folder, paths.predictions / options.model, sent, delete=options.delete)
        except (UserError, OSError) as error:
            log.error("%s", describe(error))
        time.sleep(options.watch)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "", str(folder))
    push(folder, paths.predictions / options.model, sent, delete=options.delete)
    return 0


def push(folder: Path, into: Path, sent: set[str], *, delete: bool) -> None:
    """Send each complete file of the log in `folder`, except those `sent` before; add its name to those."""
    for path in files(folder):
        if path.name not in sent:
            current().send(path, into)
            log.info("the bucket has %s", path.name)
        if delete:
            path.unlink()
            sent.discard(path.name)
        else:
            sent.add(path.name)


if __name__ == "__main__":
    sys.exit(main())
