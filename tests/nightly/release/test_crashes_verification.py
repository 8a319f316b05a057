"""A release that is killed while a real model server verifies it: on disk, in its record, and for the clients.

Up to the rename, test_crashes.py kills it at every line, without a server.
"""

import os
import signal
from pathlib import Path

import pytest

from tests.support import dying
from tests.support.forks import FORKS
from tests.support.live_server import model

NAME = "dying"
pytestmark = [pytest.mark.timeout(1800), pytest.mark.integration, pytest.mark.slow]
POINTS = 12  # deaths of each kind, spread over all lines from the rename to the end


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("exports")
    return [model(folder / str(i), i / 10) for i in range(4)]


def release(source: Path, run_id: str, die_at: int | None = None) -> list[str] | None:
    """The lines that a release went through after its rename, in a process of its own; None: it was killed."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("NIGHTLY_")}
    ours, theirs = FORKS.Pipe()
    process = FORKS.Process(target=dying.release, args=(environment, NAME, source, run_id, die_at, theirs))
    process.start()
    theirs.close()
    process.join(timeout=60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return ours.recv() if process.exitcode == 0 else None


@pytest.mark.parametrize("again", ["its retry", "another run"])
def test_a_release_killed_during_its_verification_never_fails_a_client_and_is_ended_by(server, exports, again):
    store = server.store(NAME)
    release(exports[0], f"first, {again}")
    lines = release(exports[1], f"whole, {again}")
    assert len(lines) > 80, "the tracing saw little of the release"
    for function in ("verify", "wait_until_available", "largest_difference", "measure_latency", "serve", "changing"):
        assert any(line.startswith(f"{function}:") for line in lines), function

    killed = []
    shift = len(lines) // POINTS // 2 if again == "another run" else 0  # other points than the retry's
    for number, die_at in enumerate(range(shift, len(lines), -(-len(lines) // POINTS))):
        stable = store.disk.production()
        dead_run, source = f"{again}, {number}", exports[2 + number % 2]
        if release(source, dead_run, die_at) is not None:  # it asked the server less often than the whole one did
            continue
        killed.append(lines[die_at])

        # The process is gone. The version is whole, clients of the label are answered, and by what was in production
        # or by what had been verified; production moves no earlier than the label.
        (dead,) = [record for record in store.disk.records() if record.run_id == dead_run]
        store.disk.verify(dead.version)
        value, version = server.answer(NAME, "stable")
        assert version == stable or (version, value) == (dead.version, (0.2, 0.3)[number % 2]), killed[-1]
        assert store.disk.production() == (dead.version if dead.state == "released" else stable)

        if again == "its retry":
            release(source, dead_run)
            record = store.disk.record(dead.version)
        else:
            release(exports[number % 2], f"another, {number}")
            record = store.disk.records()[-1]
            state = store.disk.record(dead.version).state
            assert state == ("released" if dead.state == "released" else "unverified"), killed[-1]
        assert (record.state, record.verification is not None) == ("released", True), killed[-1]
        assert store.disk.production() == record.version
        assert server.answer(NAME, "stable") == server.answer(NAME)
        assert server.answer(NAME, "stable")[1] == record.version
        assert server.labels(NAME) == {"stable": record.version}
        assert "verifying" not in {r.state for r in store.disk.records()}
    assert len(killed) >= POINTS - 2
