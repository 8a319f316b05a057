"""The nights of a campaign, and what is done to them: run by python -m tests.chaos, in its copy of the project.

One night with faults, then an ordinary one, which must be RELEASED by itself; so until all faults were tried.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import platform
import shlex
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from random import Random

from nightly.io.hints import did_you_mean
from nightly.io.polling import poll
from nightly.records import tasks
from nightly.records.base import ContractError
from nightly.records.verdict import Verdict
from tests.chaos import faults_disk, faults_processes, faults_runs
from tests.chaos.faults import FAULTS, Fault, NotNow, Strike
from tests.chaos.invariants import ENDED, Invariants
from tests.chaos.ledger import Ledger
from tests.chaos.report import NightResult, Report, Trial, Violation
from tests.chaos.settings import Settings
from tests.chaos.watch import Asker, Watcher
from tests.chaos.world import DAG, MODEL, World

REGISTERED = (faults_disk, faults_processes, faults_runs)  # each registers its faults when it is imported
FIRST_DAY = dt.date(2014, 2, 1)  # each night is as of the next day: no two have the same data
LAST_DAY = dt.date(2016, 2, 1)  # from then on the trips are few
TASKS = tuple(task for task in tasks.TASKS if task not in (*tasks.REVIEW, *tasks.OPTIONAL))
ITSELF = "the campaign itself"  # violates no invariant, and broke
BEGUN = ("running", "success", "failed", "up_for_retry")  # what is skipped, or fails with another, never ran
NIGHTS_IN_VAIN = 5
POLL_SECONDS = 0.5


class NoFault(Exception):
    """What was asked for cannot be done."""


@dataclass
class Planned:
    """A fault of a night: at the start of `task` or, without one, so long after the night's start."""

    fault: Fault
    task: str
    seconds: float
    dice: Random

    @property
    def moment(self) -> str:
        return f"at {self.task}" if self.task else f"after {self.seconds:.0f} s"


class Ongoing:
    """A planned fault whose moment has come: it is done in a thread, and watched until the world has recovered."""

    def __init__(self, planned: Planned, trial: Trial, strike: Strike) -> None:
        self.planned = planned
        self.trial = trial
        self.began = time.monotonic()
        self.began_at = dt.datetime.now(dt.UTC)
        self.error = ""
        self._strike = strike
        self.thread = threading.Thread(target=self._do, daemon=True)
        self.thread.start()

    @property
    def done(self) -> bool:
        return not self.thread.is_alive()

    def _do(self) -> None:
        while not self.trial.did:
            try:
                self.began, self.began_at = time.monotonic(), dt.datetime.now(dt.UTC)
                self.trial.did = self.planned.fault.does(self._strike)
            except NotNow:
                if self._strike.over():
                    return
                time.sleep(0.1)
            except Exception:
                self.error = traceback.format_exc()
                return


class Campaign:
    def __init__(self, world: World, report: Report) -> None:
        self.world = world
        self.settings = world.settings
        self.report = report
        self.dice = Random(self.settings.seed)
        self.ledger = Ledger()
        self.watcher = Watcher(world.paths, MODEL, self.ledger)
        self.asker = Asker(world.grpc, self.watcher)
        self.invariants = Invariants(world, self.watcher, self.asker, self.ledger)
        self._began = time.monotonic()
        self._day = FIRST_DAY
        self._as_of = ""
        self._deck: list[Fault] = []
        self._tasks: list[dict] = []

    def run(self) -> None:
        self._possible()  # what cannot be done is said at once
        self.watcher.start()
        self.asker.start()
        self._ordinary_night([])
        in_vain = 0
        while len(self.report.trials) < self.settings.faults and not self._late():
            faults = self._faulty_night()
            self._ordinary_night(faults)
            in_vain = 0 if faults else in_vain + 1
            if in_vain == NIGHTS_IN_VAIN:
                raise NoFault(f"in {in_vain} nights no fault had a victim: {[fault.name for fault in self._deck]}")
        time.sleep(60)  # what a killed process has left is young until then
        self._ordinary_night([])
        for thread in (self.watcher, self.asker):
            thread.over.set()
            thread.join()

    def _late(self) -> bool:
        return bool(self.settings.minutes) and time.monotonic() - self._began > 60 * self.settings.minutes

    # --- the two kinds of night

    def _ordinary_night(self, faults_before: list[str]) -> None:
        self._wait_for_health(faults_before)
        run_id, began = self._trigger(), time.monotonic()
        self._follow(run_id, [], began)
        result = self._ended(run_id, True, began)
        if result.outcome != "RELEASED":
            self._violated("the next ordinary night", f"{result.outcome}: {result.summary}", run_id, faults_before)
        for name, what in self.invariants.after_an_ordinary_night([run_id]):
            self._violated(name, what, run_id, faults_before)
        self.save()

    def _faulty_night(self) -> list[str]:
        planned = self._plan()
        run_id, began = self._trigger(), time.monotonic()
        ongoing = self._follow(run_id, planned, began)
        for each in ongoing:
            each.thread.join(self.settings.bound)
        result = self._ended(run_id, False, began)
        for each in ongoing:
            if each.error:
                self._violated(ITSELF, f"{each.planned.fault.name}: {each.error}", run_id, [])
            if each.trial.did:
                each.trial.outcome = result.outcome
                self.report.trials.append(each.trial)
            else:
                self._deck.append(each.planned.fault)
        self._deck += [each.fault for each in planned if each not in [o.planned for o in ongoing]]
        faults = [each.trial.fault for each in ongoing if each.trial.did]
        self._wait_for_health(faults)
        more, self.ledger.more_runs = self.ledger.more_runs, []
        for other in more:
            self._follow(other, [], time.monotonic())
        for name, what in self.invariants.after_a_night([run_id, *more]):
            self._violated(name, what, run_id, faults)
        self.save()
        return faults

    def _plan(self) -> list[Planned]:
        """The faults of the next night: from a deck, so that each is drawn about as often as any other."""
        planned: list[Planned] = []
        usual = [night.seconds for night in self.report.nights if night.ordinary][-5:]
        for _ in range(min(self.settings.a_night, self.settings.faults - len(self.report.trials))):
            fault = self._draw(may_be_apart=not any(each.fault.apart for each in planned))
            at_task = fault.at or (TASKS if self.dice.random() < 0.5 else ("",))
            seconds = self.dice.uniform(0, min(usual))
            planned.append(Planned(fault, self.dice.choice(at_task), seconds, Random(self.dice.random())))
        return planned

    def _draw(self, may_be_apart: bool) -> Fault:
        """The next of the deck that may strike now; the deck is filled up when it has none."""
        while True:
            for index, fault in enumerate(self._deck):
                if may_be_apart or not fault.apart:
                    return self._deck.pop(index)
            more = self._possible()
            self.dice.shuffle(more)
            if not may_be_apart and all(fault.apart for fault in more):
                return more[0]  # nothing else was asked for
            self._deck += more

    def _possible(self) -> list[Fault]:
        """The faults that were asked for and can be done here. Raises NoFault."""
        chosen = [name.strip() for name in self.settings.only.split(",") if name.strip()] or list(FAULTS)
        for name in chosen:
            if name not in FAULTS:
                raise NoFault(f"there is no fault {name!r}{did_you_mean(name, list(FAULTS))}")
        self.report.not_done = {name: why for name in chosen if (why := FAULTS[name].impossible(self.world))}
        possible = [FAULTS[name] for name in chosen if name not in self.report.not_done]
        if not possible:
            raise NoFault(f"none of the faults can be done here: {self.report.not_done}")
        return possible

    # --- one run

    def _trigger(self) -> str:
        day = self._day
        self._day = day + dt.timedelta(days=1) if day < LAST_DAY else FIRST_DAY
        self._as_of = str(day)
        return self.world.trigger(as_of=self._as_of, release="yes")

    def _follow(self, run_id: str, planned: list[Planned], began: float) -> list[Ongoing]:
        """Wait for the run's end, and do what is planned when its moment comes; returns what was begun."""
        waiting, ongoing = list(planned), []
        over = threading.Event()
        last = -self.settings.gap
        while True:
            seconds = time.monotonic() - began
            with contextlib.suppress(Exception):
                self._tasks = self.world.tasks(DAG, run_id)
            started = {task["task_id"] for task in self._tasks if task["state"] in BEGUN}
            for each in waiting if seconds - last >= self.settings.gap else []:
                if each.task in started if each.task else seconds >= each.seconds:
                    waiting.remove(each)
                    last = seconds
                    trial = Trial(each.fault.name, run_id, round(seconds, 1), each.moment)
                    strike = Strike(self.world, run_id, self._as_of, each.dice, over.is_set, self.ledger)
                    ongoing.append(Ongoing(each, trial, strike))
                    self._say(f"  {seconds:4.0f} s  {each.fault.name}, {each.moment}")
                    break
            self._note_recovery(ongoing)
            if self.world.state(DAG, run_id) in ENDED:
                over.set()
                break
            if seconds > self.settings.bound:
                over.set()
                states = {task["task_id"]: task["state"] for task in self._tasks if task["state"]}
                faults = [each.trial.fault for each in ongoing]
                self._violated("no run hangs", f"no end after {seconds:.0f} s: {states}", run_id, faults)
                self.world.api("patch", f"dags/{DAG}/dagRuns/{run_id}", json={"state": "failed"})
                break
            time.sleep(POLL_SECONDS)
        self._note_recovery(ongoing, ended=True)
        return ongoing

    def _note_recovery(self, ongoing: list[Ongoing], ended: bool = False) -> None:
        open_ones = [each for each in ongoing if each.done and each.trial.did and each.trial.seconds is None]
        if not open_ones or not self.world.healthy():
            return
        for each in open_ones:
            ends = [task["end_date"] for task in self._tasks if task["state"] == "success" and task["end_date"]]
            if ended or any(dt.datetime.fromisoformat(end) > each.began_at for end in ends):
                each.trial.seconds = round(time.monotonic() - each.began, 1)

    def _ended(self, run_id: str, ordinary: bool, began: float) -> NightResult:
        seconds = round(time.monotonic() - began, 1)
        try:
            verdict = Verdict.load(self.world.paths.night(MODEL, run_id) / "verdict.json")
            outcome, summary = verdict.outcome.value, verdict.summary
        except (OSError, ContractError) as error:
            outcome, summary = "no verdict", str(error)
        result = NightResult(run_id, ordinary, outcome, seconds, summary)
        self.report.nights.append(result)
        kind = "ordinary night" if ordinary else "night"
        self._say(f"{kind} {run_id}: {outcome} after {seconds:.0f} s ({summary[:150]})")
        return result

    def _wait_for_health(self, faults: list[str]) -> None:
        if not poll(self.world.healthy, every=1, seconds=2 * self.settings.settle):
            dead = [s.name for s in self.world.services.values() if not s.processes]
            self._violated(ITSELF, f"the services did not come back, dead: {dead}", "", faults)

    # --- what is told

    def _violated(self, invariant: str, what: str, run_id: str, faults: list[str]) -> None:
        self.report.violations.append(Violation(invariant, what, run_id, faults))
        self._say(f"VIOLATED {invariant}: {what}  [{', '.join(faults)}]")

    def save(self) -> None:
        self.report.seconds = time.monotonic() - self._began
        self.report.client = (
            f"The client had {self.asker.answers:,} answers for `stable`, and was without one for "
            f"{self.asker.longest_away:.0f} s at most."
        )
        self.report.save(self.world.folder)

    def _say(self, text: str) -> None:
        print(f"{dt.datetime.now():%H:%M:%S} [{len(self.report.trials)}] {text}", flush=True)


def main() -> int:
    settings = Settings.parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    machine = f"{platform.system()} {platform.release()}, {os.cpu_count()} cores"
    usual = Settings(home=settings.home).arguments()
    words = [shlex.quote(word) for word in settings.arguments() if word not in usual]
    command = f'make chaos ARGS="{" ".join(words)}"'
    report = Report(command, machine, os.environ.get("CHAOS_CODE", "unknown"))
    try:
        with World(settings).running() as world:
            campaign = Campaign(world, report)
            try:
                campaign.run()
            finally:
                campaign.save()
    except Exception:
        traceback.print_exc()
        return 2
    print(report.markdown())
    return exit_status(report)


def exit_status(report: Report) -> int:
    """1 if an invariant was violated, 2 if only the campaign itself failed, else 0."""
    violated = {violation.invariant for violation in report.violations}
    return 1 if violated - {ITSELF} else 2 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
