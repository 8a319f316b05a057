"""Hosts on one machine: network namespaces on a bridge, which is in a namespace of its own.

Nothing of them is in the machine's own network. Needs root; `skip_without` says so.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest

SUBNET = "10.231.0"


class Host(NamedTuple):
    """A host, by the name of its namespace."""

    name: str
    address: str

    @property
    def prefix(self) -> list[str]:
        """What a command begins with to run on this host."""
        return ["ip", "netns", "exec", self.name]

    def start(self, command: Sequence[object], **kwargs: object) -> subprocess.Popen:
        """Start a process there, in a process group of its own."""
        return subprocess.Popen([*self.prefix, *map(str, command)], start_new_session=True, **kwargs)


def skip_without() -> None:
    """Skip the test on a machine that cannot make network namespaces."""
    name = f"probe-{os.getpid()}"
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("network namespaces need the program ip: apt-get install iproute2")
    if made.returncode:
        pytest.skip(f"network namespaces need root: {made.stderr.strip()}")
    _ip("netns", "del", name)


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Yield `count` hosts that reach each other. What runs on them must end first."""
    skip_without()
    bridge = Host(f"nightly{os.getpid()}-net", "")
    with ExitStack() as stack:
        _namespace(stack, bridge.name)
        _ip("-n", bridge.name, "link", "add", "br0", "type", "bridge")
        _ip("-n", bridge.name, "link", "set", "br0", "up")
        made = []
        for number in range(1, count + 1):
            host = Host(f"nightly{os.getpid()}-{number}", f"{SUBNET}.{number}")
            _namespace(stack, host.name)
            port = f"port{number}"
            _ip("-n", host.name, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", bridge.name)
            _ip("-n", bridge.name, "link", "set", port, "master", "br0", "up")
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.name, "link", "set", "eth0", "up")
            made.append(host)
        yield made


def _namespace(stack: ExitStack, name: str) -> None:
    _ip("netns", "add", name)
    stack.callback(subprocess.run, ["ip", "netns", "del", name])
    _ip("-n", name, "link", "set", "lo", "up")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stderr)
