"""Keep a model server's volume up to date with the releases, on a host that does not release:

    bin/pull --from s3://bucket/state --into /models --watch 5          by the records of the shared state
    bin/pull taxi --gcs gs://bucket/prefix --into /models --watch 30    the current version of a model's release.gcs

A version appears complete, in one rename, once every file is as it was released. Withdrawn versions are removed from
the server's sight. From the shared state, models.config is written too, and --tell makes the server read it. With
--watch the command repeats after that many seconds. It needs no TensorFlow. Several may run, each into its own volume.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nightly.cli.arguments import positive_number
from nightly.cli.errors import Parser, command, describe
from nightly.io import variables
from nightly.io.errors import UserError

COMMAND = "bin/pull"

log = logging.getLogger("nightly")


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser(COMMAND, description=__doc__)
    parser.add_argument("model", nargs="*", help="by default, with a shared state, all models with a release")
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument("--from", dest="state", help="the shared state (default: NIGHTLY_STATE)")
    origin.add_argument("--gcs", help="gs://BUCKET/PREFIX, as release.gcs in the model's config.toml")
    parser.add_argument("--into", type=Path, required=True, help="the volume that the model server watches")
    parser.add_argument("--tell", metavar="HOST:PORT", help="the gRPC address of the model server on this volume")
    parser.add_argument(
        "--watch", type=positive_number, metavar="SECONDS", help="repeat until stopped; failures are tried again"
    )
    return parser


@command(COMMAND)
def main(args: Sequence[str] | None = None) -> int:
    options = _options(parser(), args)
    logging.basicConfig(format="%(asctime)s %(levelname)s: %(message)s", level=logging.INFO)
    pull_once = _of_gcs(options) if options.gcs else _of_state(options)
    while options.watch is not None:
        try:
            pull_once()
        except (UserError, OSError) as error:
            log.error("%s", describe(error))
        time.sleep(options.watch)
    pull_once()
    return 0


def _options(parser: argparse.ArgumentParser, args: Sequence[str] | None) -> argparse.Namespace:
    options = parser.parse_args(args)
    options.state = options.state or variables.STATE.read()
    if options.gcs and not options.model:
        parser.error("--gcs needs the names of the models")
    if not options.gcs and "://" not in options.state:
        parser.error("give the shared state by --from, e.g. s3://bucket/prefix, or a model's release.gcs by --gcs")
    return options


def _of_gcs(options: argparse.Namespace) -> Callable[[], None]:
    from nightly.release.google_cloud.gcs import GcsReleases
    from nightly.release.google_cloud.pull import pull

    def pull_once() -> None:
        for model in options.model:
            log.info("%s is at %s", model, pull(GcsReleases(options.gcs, model), options.into).version)

    return pull_once


def _of_state(options: argparse.Namespace) -> Callable[[], None]:
    for variable in variables.FOLDER_VARIABLES.values():
        os.environ.pop(variable.name, None)  # this process has no folder of the state but its copies in the volume
    os.environ[variables.VAR.name] = str(options.into.absolute() / ".pulled/.state")
    from nightly.serving.pull import Puller, StateReleases, teller, write_settings

    write_settings(options.into)
    tell = {"tell": teller(options.tell)} if options.tell else {}
    puller = Puller(StateReleases(options.state), options.into, options.model, **tell)
    before: dict[str, list[int]] = {}

    def pull_once() -> None:
        nonlocal before
        present = puller.round()
        for model in present if present != before else ():
            log.info("%s has %s", model, ", ".join(map(str, present[model])) or "no version")
        before = present

    return pull_once


if __name__ == "__main__":
    sys.exit(main())
