"""What a campaign does to a night: a function a fault, registered with what it needs and when it strikes.

A fault returns what it did, in a few words, or raises NotNow while there is nobody to strike; it is tried again then
until the night has ended. It runs in a thread of its own, so it may wait.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.chaos import processes
from tests.chaos.world import DAG, MODEL, PARTS, World

__all__ = ["DAG", "FAULTS", "MODEL", "PARTS", "Fault", "NotNow", "Strike", "fault"]


class NotNow(Exception):
    """There is no victim at the moment."""


@dataclass(frozen=True)
class Strike:
    """What a fault may know: the world, the night's run, and the campaign's dice."""

    world: World
    run_id: str
    dice: Random
    over: Callable[[], bool]  # whether the night has ended


@dataclass(frozen=True)
class Fault:
    name: str
    does: Callable[[Strike], str]
    needs: str = ""  # disk: a small disk of our own; sqlite, postgresql: that database; clock: libfaketime
    at: tuple[str, ...] = ()  # the tasks at whose start it strikes; (): at any moment

    def impossible(self, world: World) -> str:
        """Why it cannot be done here, "" if it can."""
        postgresql = world.settings.postgresql
        if self.needs == "disk" and not world.has_small_disk:
            return "needs a mount namespace: root, or a kernel that gives users their own"
        if self.needs == "postgresql" and not postgresql:
            return "needs --postgresql"
        if self.needs == "sqlite" and postgresql:
            return "SQLite only"
        return ""


FAULTS: dict[str, Fault] = {}


def fault(name: str, *, needs: str = "", at: tuple[str, ...] = ()) -> Callable[[Callable[[Strike], str]], object]:
    """Register a function as the fault `name`."""

    def register(does: Callable[[Strike], str]) -> Callable[[Strike], str]:
        FAULTS[name] = Fault(name, does, needs, at)
        return does

    return register


def _wait(strike: Strike, low: float, high: float) -> float:
    seconds = strike.dice.uniform(low, high)
    time.sleep(seconds)
    return seconds


# --- processes that end or stop


def _kill(kind: str) -> Callable[[Strike], str]:
    def does(strike: Strike) -> str:
        found = processes.victims(kind)
        if not found:
            raise NotNow(f"no {kind} runs")
        victim = strike.dice.choice(found)
        processes.send([victim], signal.SIGKILL)
        return f"SIGKILL to {kind} {victim.pid}"

    return does


def _stop(kind: str, low: float, high: float) -> Callable[[Strike], str]:
    """SIGSTOP, and SIGCONT after a while; never where `high` is 0."""

    def does(strike: Strike) -> str:
        found = processes.victims(kind)
        if not found:
            raise NotNow(f"no {kind} runs")
        victim = strike.dice.choice(found)
        processes.send([victim], signal.SIGSTOP)
        if not high:
            return f"SIGSTOP to {kind} {victim.pid}, for ever"
        seconds = _wait(strike, low, high)
        processes.send([victim], signal.SIGCONT)
        return f"SIGSTOP to {kind} {victim.pid} for {seconds:.0f} s"

    return does


for kind in ("step", "step-supervisor", "host", "task", "task-supervisor"):
    fault(f"kill {kind}")(_kill(kind))
for kind in ("step", "host", "task", "task-supervisor"):
    fault(f"stop {kind}")(_stop(kind, 10, 40))
for kind in ("step", "host"):
    fault(f"stop {kind} for ever")(_stop(kind, 0, 0))


def _kill_service(name: str, alone: bool = False) -> Callable[[Strike], str]:
    def does(strike: Strike) -> str:
        struck = strike.world.kill(name, alone)
        if not struck:
            raise NotNow(f"{name} is not there")
        return f"SIGKILL to {name}, {len(struck)} processes"

    return does


def _stop_service(name: str) -> Callable[[Strike], str]:
    def does(strike: Strike) -> str:
        struck = processes.send(strike.world.services[name].processes, signal.SIGSTOP)
        if not struck:
            raise NotNow(f"{name} is not there")
        seconds = _wait(strike, 10, 70)
        processes.send(struck, signal.SIGCONT)
        return f"SIGSTOP to {name}, {len(struck)} processes, for {seconds:.0f} s"

    return does


for service in (*PARTS, "model-server"):
    fault(f"kill {service}")(_kill_service(service))
    fault(f"stop {service}")(_stop_service(service))
fault("kill scheduler, its tasks live on")(_kill_service("scheduler", alone=True))
fault("kill model-server at the release", at=("release",))(_kill_service("model-server"))
fault("stop model-server at the release", at=("release",))(_stop_service("model-server"))


@fault("kill everything")
def _kill_everything(strike: Strike) -> str:
    struck = processes.send(reversed(processes.descendants()), signal.SIGKILL)
    return f"SIGKILL to all {len(struck)} processes"
