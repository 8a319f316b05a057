"""Write the model server's configuration files into the serving volume. The command is nightly.cli.configure.

    models.config       the models and their labels, from the release records (models_config.py)
    batching.config     as in server/nightly_server, where each value is explained
    monitoring.config   as in server/nightly_server
    server.json         the server's address, if it is known (address.py)

Write them before the server's first start, and after a change of batching.config or monitoring.config. A new model
needs no call: its first release adds it to models.config and reloads the running server's configuration.
"""

from importlib import resources
from pathlib import Path

from nightly.io.atomic import write_atomically
from nightly.io.paths import Paths
from nightly.serving import address
from nightly.serving import models_config as live
from nightly.state import current

SETTINGS = ("batching.config", "monitoring.config")


def write(paths: Paths, base_path: str) -> list[Path]:
    """Write the server's files; return their paths, models.config first.

    :param base_path: the serving volume as the server sees it
    """
    written = [live.write(paths, base_path)]
    for name in SETTINGS:
        write_atomically(paths.serving / name, (resources.files("nightly_server") / name).read_bytes())
        written.append(paths.serving / name)
    return written


def write_all(paths: Paths) -> list[Path]:
    """Write the server's files and, if its address is known, server.json; return their paths.

    Writes none if the state is in a bucket: the server is then on a host of its own, where bin/pull writes them.
    """
    if current().shared:
        return []
    written = write(paths, address.base_path(paths))
    if known := address.find_address(paths):
        address.record(paths, known)
        written.append(address.path(paths))
    return written
