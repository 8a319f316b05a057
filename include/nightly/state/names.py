"""Names of records and content in the state: relative paths such as nights/taxi_tips/RUN/verdict.json.

A path may be in a session's folder, in the view's, or in one of this host's folders. Its name is the same.
"""

import os
from pathlib import Path, PurePosixPath

from nightly.io import variables
from nightly.io.paths import RECORDS, Paths
from nightly.state.errors import StateAddressError

PREFIXES = ("nights/{0}", "releases/{0}", "schemas/{0}", "downloads/{0}/parts")  # of one model's records
LARGE = ".parquet"  # the suffix of a file among records that is kept as content
RUNNING = ".running"  # the suffix of a node's mark in the night's folder while it runs
STUBS = ("snapshots", "baselines")  # folders of content that is listed before it is fetched


def host_paths() -> Paths:
    """Return this host's folders, whatever session this process is in."""
    return Paths.from_environment({name: value for name, value in os.environ.items() if name != variables.SESSION.name})


def session_paths(folder: Path) -> Paths:
    """Return the paths to work with in the session or view in `folder`."""
    return Paths.from_environment({**os.environ, variables.SESSION.name: str(folder)})


def name_of(path: Path, *own: Path) -> str:
    """Return the name of what is at `path`. Raises StateAddressError for a path outside the state's folders.

    :param own: folders of sessions and views
    """
    path = path.absolute()
    for folder in own:
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    paths = host_paths()
    for name in variables.FOLDERS:
        if path.is_relative_to(getattr(paths, name)):
            return (PurePosixPath(name) / path.relative_to(getattr(paths, name)).as_posix()).as_posix()
    raise StateAddressError(f"{path} is outside the state's folders, which are below {paths.var}.")


def local_path(name: str) -> Path:
    """Return where this host keeps the content, record or lock of this name."""
    top, _, rest = name.partition("/")
    return Path(getattr(host_paths(), top)) / rest


def is_among_records(name: str) -> bool:
    """Return whether a session has what has this name in its own folder: a record, or a large file beside records."""
    parts = name.split("/")
    return parts[0] in RECORDS and (parts[0] != "downloads" or parts[2:3] == ["parts"])


def is_record(name: str) -> bool:
    """Return whether the state keeps what has this name as a record; else it is content."""
    return is_among_records(name) and not name.endswith(LARGE)


def is_hidden(name: str) -> bool:
    """Return whether a file among records is a process's own: a lock, or unfinished."""
    return any(part.startswith(".") for part in name.split("/"))
