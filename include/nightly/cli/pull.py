"""Bring a serving machine's volume to what is current in a bucket.

A version appears whole, in one rename, once every file is as it was released. What was rolled back leaves the server's
sight. Nothing but google-cloud-storage and pydantic is needed (include/nightly/release/google_cloud/pull.py).
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nightly.cli.arguments import positive_number
from nightly.cli.errors import Parser, command, describe
from nightly.io.errors import UserError
from nightly.release.google_cloud.gcs import GcsReleases
from nightly.release.google_cloud.pull import pull

COMMAND = "python -m nightly.cli.pull"

log = logging.getLogger("nightly")


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser(COMMAND, description=__doc__)
    parser.add_argument("bucket", help="gs://BUCKET/PREFIX, as release.gcs in the model's config.toml")
    parser.add_argument("model")
    parser.add_argument("--into", type=Path, required=True, help="the volume that TensorFlow Serving watches")
    parser.add_argument(
        "--every", type=positive_number, metavar="SECONDS", help="go on for ever; what fails is tried again"
    )
    return parser


@command(COMMAND)
def main(args: Sequence[str] | None = None) -> int:
    options = parser().parse_args(args)
    logging.basicConfig(format="%(asctime)s %(levelname)s: %(message)s", level=logging.INFO)
    while options.every is not None:
        try:
            _pull(options)
        except (UserError, OSError) as error:
            log.error("%s", describe(error))
        time.sleep(options.every)
    _pull(options)
    return 0


def _pull(options: argparse.Namespace) -> None:
    record = pull(GcsReleases(options.bucket, options.model), options.into)
    log.info("%s is at %s", options.model, record.version)


if __name__ == "__main__":
    sys.exit(main())
