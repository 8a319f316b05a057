"""What happens beside a night: a trigger, a backfill, a rollback, a canary that is decided, a clock that jumps."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nightly.io.paths import ROOT
from nightly.io.polling import poll
from nightly.records.release import ReleaseRecord
from nightly.release.store import ReleaseStore
from tests.chaos.faults import NotNow, Strike, fault
from tests.chaos.invariants import ENDED
from tests.chaos.world import DAG, MODEL

CONFIG = ROOT / "include/models" / MODEL / "config.toml"
CANARY = '\n[release.canary]\nshare = 0.1\nlabels = ["feedback"]\n'
BACKFILLED = dt.date(2013, 6, 1)  # before any night of the campaign


@fault("two triggers at once")
def _trigger(strike: Strike) -> str:
    run_id = strike.world.trigger(as_of=strike.as_of, release="yes")
    strike.ledger.more_runs.append(run_id)
    return f"{run_id} was triggered for the same day"


@fault("a backfill beside")
def _backfill(strike: Strike) -> str:
    day = str(BACKFILLED + dt.timedelta(days=strike.dice.randrange(150)))
    before = {run["dag_run_id"] for run in strike.world.runs(DAG)}
    with contextlib.suppress(RuntimeError):  # another fault may keep the database from it, also after it was created
        strike.world.backfill(DAG, day, day, {"release": "no"})
    new = [run["dag_run_id"] for run in strike.world.runs(DAG) if run["dag_run_id"] not in before]
    if not new:
        raise NotNow("no backfill was created")
    strike.ledger.more_runs += [run_id for run_id in new if run_id.startswith("backfill")]
    return f"{day} was backfilled"


@fault("clear in the middle")
def _clear(strike: Strike) -> str:
    tasks = {task["task_id"]: task["state"] for task in strike.world.tasks(DAG, strike.run_id)}
    begun = sorted(name for name, state in tasks.items() if state in ("success", "running") and name != "plan")
    if not begun or tasks.get("release") in ("success", "running") or strike.over():
        raise NotNow("nothing to clear, or released already")
    task = strike.dice.choice(begun)
    body = {"dry_run": False, "dag_run_id": strike.run_id, "task_ids": [task], "only_failed": False}
    body |= {"include_downstream": True, "reset_dag_runs": True}
    strike.world.api("post", f"dags/{DAG}/clearTaskInstances", json=body)
    return f"{task} was cleared with what is downstream"


@fault("a rollback beside a release", at=("release",), apart=True)
def _roll_back(strike: Strike) -> str:
    if len(_store(strike).disk.released()) < 2:
        raise NotNow("there is nothing to go back to")
    strike.ledger.withdrawn_runs.update(record.run_id for record in _store(strike).disk.records())
    strike.ledger.withdrawn_runs.add(strike.run_id)
    run_id = strike.world.trigger("rollback", model=MODEL, version="previous", reason="the campaign")
    bound = strike.world.settings.bound
    state = poll(lambda: strike.world.state("rollback", run_id), until=ENDED.__contains__, every=1, seconds=bound)
    if state not in ENDED:
        raise TimeoutError(f"the rollback {run_id} did not end within {bound:.0f} s")
    return f"rolled back to the previous version: {state}"


def _decide_canary(decision: str) -> Callable[[Strike], str]:
    def does(strike: Strike) -> str:
        strike.ledger.withdrawn_runs.add(strike.run_id)
        with _canary_configured():
            if not poll(lambda: _canary(strike), until=lambda canary: canary or strike.over(), every=0.2):
                raise NotNow("the night made no canary")
            done = strike.world.releases("canary", MODEL, decision, "--reason", "the campaign")
            for _ in range(10):  # the server may be away: a person tries again
                if (canary := _canary(strike)) is None:
                    break
                time.sleep(10)
                done = strike.world.releases("canary", MODEL, decision, "--reason", "the campaign")
        if canary is not None:
            raise RuntimeError(f"the canary {canary.version} could not be decided: {done.stderr}")
        return f"canary: {decision}"

    return does


fault("promote a canary beside", at=("plan",), apart=True)(_decide_canary("promote"))
fault("stop a canary beside", at=("plan",), apart=True)(_decide_canary("stop"))


@fault("a clock that jumps", needs="clock")
def _jump(strike: Strike) -> str:
    offset = strike.dice.choice((-7200, -600, -90, 90, 600, 7200))
    strike.world.clock.jump(offset)
    try:
        seconds = strike.wait(10, 60)
    finally:
        strike.world.clock.jump(0)
    return f"Airflow's clock was {offset:+d} s off for {seconds:.0f} s"


def _store(strike: Strike) -> ReleaseStore:
    return ReleaseStore(strike.world.paths.serving, strike.world.paths.releases, MODEL)


def _canary(strike: Strike) -> ReleaseRecord | None:
    return _store(strike).disk.canary()


@contextmanager
def _canary_configured() -> Iterator[None]:
    """The config of the campaign's own copy of the project, with canaries."""
    before = CONFIG.read_text()
    CONFIG.write_text(before + CANARY)
    try:
        yield
    finally:
        CONFIG.write_text(before)
