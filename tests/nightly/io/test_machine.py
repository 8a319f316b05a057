"""Linux, and a machine without what only Linux has."""

import os
import socket
from pathlib import Path

import pytest

from nightly.io import machine


def test_cpus_are_those_that_this_process_may_use(monkeypatch):
    assert machine.cpus() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert machine.cpus() == os.cpu_count()


@pytest.mark.parametrize("linux", [True, False])
def test_a_socket_is_reached_by_its_address(linux, tmp_path, monkeypatch):
    if not linux:
        monkeypatch.setattr(machine, "DESCRIPTORS", tmp_path / "absent")
    path = (tmp_path if linux else Path(os.path.relpath(tmp_path))) / "host.sock"
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(machine.socket_address(folder, path))
        server.listen()
        client.connect(machine.socket_address(folder, path))
    os.close(folder)
    assert path.is_socket()
