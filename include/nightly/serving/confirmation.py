"""How a command ends whose change no model server could confirm."""

import sys

from nightly.io.paths import Paths
from nightly.serving.address import find_address
from nightly.serving.models_config import FILE

NOT_CONFIRMED = 4  # the status: done on disk, in the records and in models.config


def confirmed(paths: Paths) -> int:
    """The status of a change that has been made: whether a model server could confirm it."""
    if find_address(paths):
        return 0
    print(
        f"no model server is known here: {paths.serving / FILE} is written, and a server that runs already has not "
        "been told. Name it by NIGHTLY_SERVING_REST and NIGHTLY_SERVING_GRPC, and run bin/releases serve MODEL.",
        file=sys.stderr,
    )
    return NOT_CONFIRMED
