"""The exit status of a command whose change a model server should confirm."""

import sys

from nightly.io.paths import Paths
from nightly.serving.address import find_address
from nightly.serving.models_config import FILE, config_folder

NOT_CONFIRMED = 4  # done on disk, in the records and in models.config, but not confirmed by a server or published


def confirmed(paths: Paths) -> int:
    """Return 0 if a model server is known, which has then confirmed the change, else print why not and return 4."""
    if find_address(paths):
        return 0
    print(
        f"no model server is known here: {config_folder(paths) / FILE} is written, but a running server has not "
        "reloaded it. Set NIGHTLY_SERVING_REST and NIGHTLY_SERVING_GRPC, and run bin/releases serve MODEL.",
        file=sys.stderr,
    )
    return NOT_CONFIRMED
