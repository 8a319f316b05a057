"""Processes that end, and processes that stop."""

from __future__ import annotations

import signal
from collections.abc import Callable

import psutil

from tests.chaos import processes
from tests.chaos.faults import NotNow, Strike, fault
from tests.chaos.world import PARTS


def _victim(strike: Strike, kind: str) -> psutil.Process:
    """One of the processes of a kind that run. Raises NotNow."""
    running = processes.victims(kind)
    if not running:
        raise NotNow(f"no {kind} runs")
    return strike.dice.choice(running)


def _kill(kind: str) -> Callable[[Strike], str]:
    def does(strike: Strike) -> str:
        victim = _victim(strike, kind)
        processes.send([victim], signal.SIGKILL)
        return f"SIGKILL to {kind} {victim.pid}"

    return does


def _stop(kind: str, low: float, high: float) -> Callable[[Strike], str]:
    """SIGSTOP, and SIGCONT after a while; never where `high` is 0."""

    def does(strike: Strike) -> str:
        victim = _victim(strike, kind)
        processes.send([victim], signal.SIGSTOP)
        if not high:
            return f"SIGSTOP to {kind} {victim.pid}, for ever"
        seconds = strike.wait(low, high)
        processes.send([victim], signal.SIGCONT)
        return f"SIGSTOP to {kind} {victim.pid} for {seconds:.0f} s"

    return does


for kind in ("step", "step-supervisor", "host", "task", "task-supervisor"):
    fault(f"kill {kind}")(_kill(kind))
for kind in ("step", "step-supervisor", "host", "task", "task-supervisor"):
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
        seconds = strike.wait(10, 70)
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


@fault("stop everything")
def _stop_everything(strike: Strike) -> str:
    struck = processes.send(processes.descendants(), signal.SIGSTOP)
    seconds = strike.wait(10, 70)
    processes.send(struck, signal.SIGCONT)
    return f"SIGSTOP to all {len(struck)} processes for {seconds:.0f} s"


@fault("kill postgresql", needs="postgresql")
def _kill_postgresql(strike: Strike) -> str:
    return f"SIGKILL to PostgreSQL, {len(strike.world.kill('postgresql'))} processes"


@fault("stop postgresql", needs="postgresql")
def _stop_postgresql(strike: Strike) -> str:
    return _stop_service("postgresql")(strike)
