"""The register of what a campaign does to a night: a function a fault, with what it needs and when it strikes.

A fault returns what it did, in a few words, or raises NotNow while there is nobody to strike; it is tried again then
until the night has ended. It runs in a thread of its own, so it may wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.chaos.ledger import Ledger
from tests.chaos.world import World


class NotNow(Exception):
    """There is no victim at the moment."""


@dataclass(frozen=True)
class Strike:
    """What a fault may know: the world, the night's run, and the campaign's dice."""

    world: World
    run_id: str
    as_of: str
    dice: Random
    over: Callable[[], bool]  # whether the night has ended
    ledger: Ledger

    def wait(self, low: float, high: float) -> float:
        """Wait for seconds between the two bounds; returns how many."""
        seconds = self.dice.uniform(low, high)
        time.sleep(seconds)
        return seconds


@dataclass(frozen=True)
class Fault:
    name: str
    does: Callable[[Strike], str]
    needs: str = ""  # disk: a small disk of our own; sqlite, postgresql: that database; clock: libfaketime
    at: tuple[str, ...] = ()  # the tasks at whose start it strikes; (): at any moment
    apart: bool = False  # a night has one such fault at most: it may end with it, or wait for it

    def impossible(self, world: World) -> str:
        """Why it cannot be done here, "" if it can."""
        postgresql = world.settings.postgresql
        if self.needs == "disk" and not world.has_small_disk:
            return "needs a mount namespace: root, or a kernel that gives users their own"
        if self.needs == "clock":
            return world.no_clock
        if self.needs == "postgresql" and not postgresql:
            return "needs --postgresql"
        if self.needs == "sqlite" and postgresql:
            return "SQLite only"
        return ""


FAULTS: dict[str, Fault] = {}


def fault(name: str, **how: Any) -> Callable[[Callable[[Strike], str]], Callable[[Strike], str]]:
    """Register a function as the fault `name`; `how` is as in Fault."""

    def register(does: Callable[[Strike], str]) -> Callable[[Strike], str]:
        FAULTS[name] = Fault(name, does, **how)
        return does

    return register
