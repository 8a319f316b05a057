"""Show what a released version is, its signatures, files and record, and what it answers:

    python -m nightly.cli.show MODEL [VERSION] [--input FILE.json | --golden]

VERSION is the one in production by default; a quarantined one can be shown, too. FILE.json is a request as for REST,
{"instances": […]} or {"inputs": …}, with "signature_name" where it is not serving_default; the answer is the
one that the server would give. --golden asks the version its golden examples and compares.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from nightly.cli.errors import Parser, command
from nightly.release.errors import ReleaseError
from nightly.release.find import store_of
from nightly.serving.inspection import ask, describe
from nightly.state import current

COMMAND = "python -m nightly.cli.show"


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser(COMMAND, description=__doc__)
    parser.add_argument("model")
    parser.add_argument("version", type=int, nargs="?")
    examples = parser.add_mutually_exclusive_group()
    examples.add_argument("--input", type=Path, metavar="FILE.json")
    examples.add_argument("--golden", action="store_true")
    return parser


@command(COMMAND)
def main(args: Sequence[str] | None = None) -> int:
    options = parser().parse_args(args)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    with current().session(options.model) as paths:
        store = store_of(paths, options.model)
        version = options.version or store.disk.production()
        if version is None:
            raise ReleaseError(f"{options.model} has no version in production in {store.disk.folder}; name a version")
        record, folder = store.disk.record(version), store.disk.find(version)
        print("\n".join(describe(folder, record)))
        if options.input or options.golden:
            print("\n".join(ask(folder, record, options.input)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
