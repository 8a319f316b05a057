"""Who releases here, so that two machines do not release to one place: <releases>/machine.json."""

import os
import socket
import uuid
from pathlib import Path

from nightly.io.atomic import write_atomically
from nightly.records.release import Machine

FILE = "machine.json"


def this_machine(releases: Path) -> Machine:
    """The identity that is kept with the release records of all models in `releases`; made when first asked for."""
    path = releases / FILE
    try:
        return Machine.load(path)
    except FileNotFoundError:
        made = Machine(id=uuid.uuid4().hex, host=socket.gethostname(), folder=str(releases.absolute()))
    mine = path.with_name(f".{FILE}.{made.id}")
    write_atomically(mine, made.model_dump_json(indent=2).encode())
    try:
        os.link(mine, path)
    except FileExistsError:  # another process was first
        pass
    finally:
        mine.unlink()
    return Machine.load(path)
