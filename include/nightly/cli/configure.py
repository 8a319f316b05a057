"""Write all that the model server is configured by into the serving volume: `python -m nightly.cli.configure`.

    models.config       the models and their labels, as the release records say (live.py)
    batching.config     as in the package nightly_server, where each value is explained
    monitoring.config   the same
    server.json         where the server is, if the environment says so (address.py)

Before the server's first start, and after a change of the latter two. A model that is added needs nothing: its first
release writes it into models.config, and tells the running server.
"""

from importlib.resources import files
from pathlib import Path

from nightly.io.atomic import write_atomically
from nightly.io.paths import Places
from nightly.serving import address
from nightly.serving import models_config as live

SETTINGS = ("batching.config", "monitoring.config")


def write(places: Places, base_path: str) -> list[Path]:
    """The files written: models.config first. `base_path`: the serving volume as the server sees it."""
    written = [live.write(places, base_path)]
    for name in SETTINGS:
        write_atomically(places.serving / name, files("nightly_server").joinpath(name).read_bytes())
        written.append(places.serving / name)
    return written


def main() -> None:
    places = Places.from_environment()
    written = write(places, address.base_path(places))
    if known := address.find_address(places):
        address.record(places, known)
        written.append(address.path(places))
    for path in written:
        print(path)


if __name__ == "__main__":
    main()
