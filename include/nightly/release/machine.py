"""The identity of the machine that releases: <releases>/machine.json. Two machines must not release to one bucket.

All hosts whose state is in one bucket are one machine.
"""

import socket
import uuid
from pathlib import Path

from nightly.records.release import Machine
from nightly.release.shared import of_all_models
from nightly.state import current, publish


def this_machine(releases: Path) -> Machine:
    """Return the machine's identity, kept beside the release records of all models. The first call creates it."""
    path = (of_all_models(releases) if current().shared else releases) / Machine.FILE
    with current().locked(path.with_name(f".{Machine.FILE}.lock")):
        current().refresh(path)
        try:
            return Machine.load(path)
        except FileNotFoundError:
            machine = Machine(id=uuid.uuid4().hex, host=socket.gethostname(), folder=str(releases.absolute()))
        machine.save(path)
        publish(path)
    return machine
