"""The identity of the machine that releases: <releases>/machine.json. Two machines must not release to one bucket."""

import os
import socket
import uuid
from pathlib import Path

from nightly.io.atomic import write_atomically
from nightly.records.release import Machine

FILE = "machine.json"


def this_machine(releases: Path) -> Machine:
    """Return the machine's identity, kept beside the release records of all models. The first call creates it."""
    path = releases / FILE
    try:
        return Machine.load(path)
    except FileNotFoundError:
        machine = Machine(id=uuid.uuid4().hex, host=socket.gethostname(), folder=str(releases.absolute()))
    mine = path.with_name(f".{FILE}.{machine.id}")
    write_atomically(mine, machine.model_dump_json(indent=2).encode())
    try:
        os.link(mine, path)  # fails if the file exists, which a rename does not
    except FileExistsError:  # another process was first
        pass
    finally:
        mine.unlink()
    return Machine.load(path)
