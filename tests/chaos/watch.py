"""Who looks on all the time: a watcher of the serving volume, and a client that asks for the label `stable`."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightly.io.files import hash_files
from nightly.io.paths import Paths
from nightly.records.base import ContractError
from nightly.records.golden import GOLDEN, Golden
from nightly.records.release import ReleaseRecord
from nightly_client import Client, ServingError
from tests.chaos.ledger import Ledger

SCAN_SECONDS = 0.01
ASK_SECONDS = 0.1
CALL_SECONDS = 5.0
LABEL = "stable"
WITHDRAWN = ("unverified", "quarantined", "removed")
WITHDRAWN_SECONDS = 10.0  # an answer that was on its way when its version was withdrawn
AWAY = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
QUIET_SECONDS = 60.0  # after a server has been away: it loads its versions, and answers NOT_FOUND until it has


@dataclass
class Watcher(threading.Thread):
    """Looks every 10 ms which versions the serving volume has, and checks each the moment that it appears."""

    paths: Paths
    model: str
    ledger: Ledger
    seen: set[int] = field(default_factory=set)  # the versions that are there
    newest: int = 0  # that ever was there
    golden: dict[int, Golden] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        folder = self.paths.serving / self.model
        while not self.over.wait(SCAN_SECONDS):
            with contextlib.suppress(OSError):
                self._scan(folder)

    def _scan(self, folder: Path) -> None:
        there = {int(path.name): path for path in folder.iterdir() if path.name.isdecimal()}
        self.seen &= there.keys()  # one that is gone may come back under its number, and is looked at again then
        for version in there.keys() - self.seen:
            self._look(version, there[version])

    def _look(self, version: int, path: Path) -> None:
        try:
            record = ReleaseRecord.load(self.paths.releases / self.model / f"{version}.json")
            files = hash_files(path)
        except (OSError, ContractError) as error:
            if path.exists():
                self.violations.append(f"version {version} is visible without a record: {error}")
                self.seen.add(version)
            return
        self.seen.add(version)
        if files != record.files:
            differing = sorted(files.items() ^ record.files.items())
            self.violations.append(f"version {version} was not whole when it appeared: {differing[:6]}")
        if version < self.newest:
            self.violations.append(f"version {version} appeared after {self.newest}")
        self.newest = max(self.newest, version)
        if bad := self.ledger.damaged_files & set(files.values()):
            self.violations.append(f"version {version} has files that were damaged before its release: {bad}")
        with contextlib.suppress(OSError, ContractError):
            self.golden[version] = Golden.load(path / GOLDEN)


@dataclass
class Asker(threading.Thread):
    """Asks `stable` all the time, and compares each answer with what the version that gave it must answer."""

    grpc: str
    watcher: Watcher
    violations: list[str] = field(default_factory=list)
    answers: int = 0
    refusals: int = 0  # the server was away
    version: int | None = None  # that answered last
    away_since: float = 0.0  # monotonic; 0: it answers
    away_until: float = 0.0
    longest_away: float = 0.0

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self._withdrawn_since = 0.0

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        with Client(f"grpc://{self.grpc}", timeout=CALL_SECONDS, retries=0) as client:
            while not self.over.wait(ASK_SECONDS):
                if self.watcher.golden:
                    self._ask(client)

    def _ask(self, client: Client) -> None:
        golden = self.watcher.golden
        asked = golden[self.version] if self.version in golden else golden[max(golden)]
        examples = [base64.b64decode(example.example_base64) for example in asked.examples[:4]]
        try:
            answer = client.predict(self.watcher.model, examples, label=LABEL)
        except ServingError as error:
            self._not_answered(error)
            return
        if self.away_since:
            self.away_until = time.monotonic()
            self.longest_away = max(self.longest_away, self.away_until - self.away_since)
            self.away_since = 0.0
        self.answers += 1
        if answer.version == self.version and self.version in golden:
            self._compare(asked, answer.values)
        self.version = answer.version
        self._must_not_be_withdrawn(answer.version)

    def _not_answered(self, error: ServingError) -> None:
        """A server that is away is no violation, nor that it cannot load a version which a fault has damaged."""
        now = time.monotonic()
        if error.code in AWAY:
            self.away_since = self.away_since or now
            self.refusals += 1
        elif (
            self.version
            and self.version not in self.watcher.ledger.damaged_versions
            and not self.away_since
            and now - self.away_until > QUIET_SECONDS
        ):
            self.violations.append(f"`{LABEL}` was refused while the server was there: {error}")

    def _compare(self, asked: Golden, answered: list[Any]) -> None:
        apart = max(row.difference(answer) for row, answer in zip(asked.examples, answered, strict=False))
        if apart > max(asked.tolerance, 1e-4) and self.version not in self.watcher.ledger.damaged_versions:
            self.violations.append(f"version {self.version} answered as another would: {apart:.6f} apart")

    def _must_not_be_withdrawn(self, version: int | None) -> None:
        path = self.watcher.paths.releases / self.watcher.model / f"{version}.json"
        try:
            state = ReleaseRecord.load(path).state
        except (OSError, ContractError):
            self.violations.append(f"`{LABEL}` is answered by {version}, which has no record")
            return
        if state not in WITHDRAWN:
            self._withdrawn_since = 0.0
        elif not self._withdrawn_since:
            self._withdrawn_since = time.monotonic()
        elif time.monotonic() - self._withdrawn_since > WITHDRAWN_SECONDS:
            self._withdrawn_since = time.monotonic() + 60  # once a minute is enough
            self.violations.append(
                f"`{LABEL}` is answered by {version}, which was {state} {WITHDRAWN_SECONDS:.0f} s ago"
            )
