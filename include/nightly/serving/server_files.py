"""What the model server is configured by, written into the serving volume. The command is nightly.cli.configure.

    models.config       the models and their labels, as the release records say (models_config.py)
    batching.config     as in server/nightly_server, where each value is explained
    monitoring.config
    server.json         where the server is, if the environment says so (address.py)

Before the server's first start, and after a change of the latter two. A model that is added needs nothing: its first
release writes it into models.config, and tells the running server.
"""

from importlib import resources
from pathlib import Path

from nightly.io.atomic import write_atomically
from nightly.io.paths import Paths
from nightly.serving import address
from nightly.serving import models_config as live

SETTINGS = ("batching.config", "monitoring.config")


def write(paths: Paths, base_path: str) -> list[Path]:
    """Write the server's files, and return them: models.config first.

    :param base_path: the serving volume as the server sees it
    """
    written = [live.write(paths, base_path)]
    for name in SETTINGS:
        write_atomically(paths.serving / name, (resources.files("nightly_server") / name).read_bytes())
        written.append(paths.serving / name)
    return written


def write_all(paths: Paths) -> list[Path]:
    """Write the server's files and, where its address is known, server.json; return them."""
    written = write(paths, address.base_path(paths))
    if known := address.find_address(paths):
        address.record(paths, known)
        written.append(address.path(paths))
    return written
