"""What must hold whatever was done to a night. Each function returns what is wrong, a sentence each."""

from __future__ import annotations

import contextlib
import hashlib
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nightly.io.polling import poll
from nightly.records.base import ContractError
from nightly.records.night import Night
from nightly.records.release import ReleaseRecord
from nightly.records.snapshot import SnapshotManifest
from nightly.records.verdict import Outcome, Verdict
from nightly.release.errors import ReleaseError
from nightly.release.store import ReleaseStore
from tests.chaos import processes
from tests.chaos.ledger import Ledger
from tests.chaos.watch import Asker, Watcher
from tests.chaos.world import DAG, MODEL, World

ENDED = ("success", "failed")
RUNNING = (1, 2)  # NEW and RUNNING of ML Metadata's Execution.State
LEFTOVERS = {  # what a killed process may leave, and the next nights clear away
    "var": ("snapshots/*/.building-*", "snapshots/*/.removing-*", "serving/*/.staging-*", "serving/.staging-*"),
    "more": ("serving/*/removed-*", "releases/*/.*.json.*", "nights/*/*/.*.json.*", "nights/*/*/*.running"),
    "tmp": ("nightly-*", "__autograph_generated_file*", "tmp*autograph*", "rollback-*"),
}
LEFT_FOR_NIGHTS = 2  # a leftover may stay for so many ordinary nights: a young one is left alone by the first


@dataclass
class Invariants:
    """The checks, and what they remember from one night to the next."""

    world: World
    watcher: Watcher
    asker: Asker
    ledger: Ledger
    _left: Counter[str] = field(default_factory=Counter)

    @property
    def store(self) -> ReleaseStore:
        return ReleaseStore(self.world.paths.serving, self.world.paths.releases, MODEL)

    # --- seen all the time

    def whole_and_increasing(self) -> Iterator[str]:
        """The versions are whole from first sight, and increase."""
        while self.watcher.violations:
            yield self.watcher.violations.pop(0)

    def labels_answer_for_their_version(self) -> Iterator[str]:
        while self.asker.violations:
            yield self.asker.violations.pop(0)

    # --- after each night

    def one_version_a_run(self) -> Iterator[str]:
        kept = [record for record in self.store.disk.records() if not record.taken_back]
        for run_id, count in Counter(record.run_id for record in kept).items():
            if count > 1:
                yield f"{count} versions are of run {run_id}: {[r.version for r in kept if r.run_id == run_id]}"

    def verdicts_agree(self, run_ids: list[str]) -> Iterator[str]:
        """Every run has a verdict that agrees with Airflow, the disk and the records."""
        for run_id in run_ids:
            path = self.world.paths.night(MODEL, run_id) / "verdict.json"
            try:
                verdict = Verdict.load(path)
            except (OSError, ContractError) as error:
                yield f"run {run_id} has no verdict: {error}"
                continue
            yield from self._agrees(run_id, verdict)

    def _agrees(self, run_id: str, verdict: Verdict) -> Iterator[str]:
        run = self.world.api("get", f"dags/{DAG}/dagRuns/{run_id}")
        red = verdict.outcome is Outcome.FAILED
        if run["state"] in ENDED and (run["state"] == "failed") != red:
            yield f"the verdict on {run_id} is {verdict.outcome}, and Airflow has the run as {run['state']}"
        if verdict.outcome.value not in (run["note"] or ""):
            yield f"the note of {run_id} does not say {verdict.outcome}: {run['note']!r}"
        live = [r for r in self.store.disk.records() if r.run_id == run_id and r.state in ("canary", "released")]
        if verdict.outcome is Outcome.RELEASED:
            yield from self._released(run_id, verdict, live)
        elif live:
            yield f"the verdict on {run_id} is {verdict.outcome}, and {live[-1].version} of it is {live[-1].state}"

    def _released(self, run_id: str, verdict: Verdict, live: list[ReleaseRecord]) -> Iterator[str]:
        if run_id in self.ledger.withdrawn_runs:
            return
        if [record.version for record in live] != [verdict.version]:
            yield f"the verdict on {run_id} is RELEASED with {verdict.version}, and its records have {live}"
        elif not (self.store.disk.folder / str(verdict.version)).is_dir():
            yield f"the verdict on {run_id} is RELEASED, and {verdict.version} is not on disk"

    def records_disk_and_server_agree(self) -> Iterator[str]:
        if self.ledger.damaged_versions:
            return  # until the next night has seen to them
        done = self.world.releases("verify", MODEL)
        if done.returncode:
            yield f"bin/releases verify ends with {done.returncode}: {done.stderr.strip()[-1500:]}"
        with contextlib.suppress(ReleaseError):
            production = self.store.disk.production()
            if production and self.asker.version != production:
                yield f"`stable` is answered by {self.asker.version}, and {production} is in production"

    def take_damaged_versions_back(self) -> None:
        """What an operator does about damage that no night mends: of versions that are not in production."""
        production = self.store.disk.production()
        for version in sorted(self.ledger.damaged_versions):
            with contextlib.suppress(ReleaseError):
                self.store.disk.verify(version)
                self.ledger.damaged_versions.discard(version)
                continue
            if version != production:
                if (self.store.disk.folder / str(version)).exists():
                    self.world.releases("quarantine", MODEL, str(version), "--reason", "damaged")
                self.ledger.damaged_versions.discard(version)

    def snapshots_verify(self) -> Iterator[str]:
        """Every snapshot is what its manifest says, but for those that a fault damaged and no night used since."""
        for path in (self.world.paths.snapshots / MODEL).glob("[!.]*/manifest.json"):
            if wrong := "; ".join(_damage(path)):
                name = path.parent.name
                if name not in self.ledger.damaged_snapshots:
                    yield f"the snapshot {name} does not verify: {wrong}"
                elif later := list(self._planned_later(name, self.ledger.damaged_snapshots[name])):
                    yield f"the snapshot {name} was damaged, and {later} released from it: {wrong}"

    def _planned_later(self, snapshot: str, moment: float) -> Iterator[str]:
        """The runs that were planned after a moment, in Unix seconds, and have released a model of a snapshot."""
        for record in self.store.disk.records():
            request = self.world.paths.night(MODEL, record.run_id) / "request.json"
            if record.snapshot_id == snapshot and Night.load(request).planned_at.timestamp() > moment:
                yield record.run_id

    def metadata_verifies(self) -> Iterator[str]:
        if self.world.database is None:
            (answer,) = self.world.sql("mlmd", "PRAGMA integrity_check")[0]
            if answer != "ok":
                yield f"ML Metadata is damaged: {answer}"
        states = ",".join(map(str, RUNNING))
        query = f"SELECT id, name FROM execution WHERE last_known_state IN ({states})"
        if running := self.world.sql("mlmd", query):
            yield f"{len(running)} executions of ML Metadata are still running: {running[:5]}"

    def nothing_is_left(self) -> Iterator[str]:
        """Called once after each ordinary night."""
        found = set(map(str, self._leftovers()))
        for name in list(self._left):
            if name not in found:
                del self._left[name]
        self._left.update(found)
        for name, nights in self._left.items():
            if nights == LEFT_FOR_NIGHTS:
                yield f"{name} is left over"

    def _leftovers(self) -> Iterator[Path | str]:
        """The files, and the processes of steps: no night runs now."""
        for process in processes.victims("step"):
            yield f"process {process.pid} of a step"
        var, temporary = self.world.paths.var, self.world.temporary
        for pattern in (*LEFTOVERS["var"], *LEFTOVERS["more"]):
            yield from var.glob(pattern)
        for pattern in LEFTOVERS["tmp"]:
            yield from temporary.glob(pattern)

    # --- all of it

    def after_a_night(self, run_ids: list[str]) -> list[tuple[str, str]]:
        """(invariant, what is wrong) after runs that have ended; waits a while for what follows an end by itself."""
        found = [*_named("whole, increasing", self.whole_and_increasing)]
        found += _named("label", self.labels_answer_for_their_version)

        def unsettled() -> list[tuple[str, str]]:
            return [
                *_named("one version a run", self.one_version_a_run),
                *_named("verdict", lambda: self.verdicts_agree(run_ids)),
                *_named("agreement", self.records_disk_and_server_agree),
            ]

        return found + poll(unsettled, until=operator.not_, every=2, seconds=self.world.settings.settle)

    def after_an_ordinary_night(self, run_ids: list[str]) -> list[tuple[str, str]]:
        self.take_damaged_versions_back()
        found = [("damage", f"version {v} is damaged, and in production") for v in self.ledger.damaged_versions]
        self.ledger.damaged_versions.clear()
        found += self.after_a_night(run_ids)
        found += _named("snapshots", self.snapshots_verify)
        found += _named("ML Metadata", self.metadata_verifies)
        return found + _named("nothing left over", self.nothing_is_left)


def _named(name: str, check: Callable[[], Iterator[str]]) -> list[tuple[str, str]]:
    return [(name, what) for what in check()]


def _damage(manifest: Path) -> Iterator[str]:
    try:
        files = SnapshotManifest.load(manifest).files
    except ContractError as error:
        yield str(error)
        return
    for file in files:
        path = manifest.parent / file.name
        if not path.is_file():
            yield f"{file.name} is missing"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
            yield f"{file.name} has changed"
