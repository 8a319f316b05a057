"""A backfill of 14 nights, two at a time, with a search for lock errors in the logs."""

import datetime as dt
import re
import time
from pathlib import Path

from benchmarks import complaints
from benchmarks.common import Goal, Result, main, say
from benchmarks.project import DAG, ENDED, Project, project
from nightly.io.polling import poll

NIGHTS, ROWS_A_DAY, STEPS = 14, 500, 60
QUICK_NIGHTS = 3
AT_ONCE = 2
LOCKED = re.compile(r"(?i)database (?:table )?is locked|deadlock|could not serialize|lock wait timeout")
SECONDS_A_NIGHT = 600


def run(quick: bool, folder: Path) -> Result:
    nights = QUICK_NIGHTS if quick else NIGHTS
    with project(folder) as ours:
        days = nights + 62  # each night looks back 60
        complaints.write(ours.source, ROWS_A_DAY * days, seed=0, last_day=complaints.FIRST_DAY, days=days)
        first = complaints.FIRST_DAY - dt.timedelta(days=nights - 1)
        began = time.monotonic()
        ours.airflow.backfill(DAG, str(first), str(complaints.FIRST_DAY), {"train_steps": STEPS}, at_once=AT_ONCE)
        runs = wait_for_runs(ours, nights)
        seconds = time.monotonic() - began
        stories = [ours.story(DAG, run["dag_run_id"]) for run in runs]
        locks = lock_errors(folder)
    outcomes = sorted({night["outcome"] for night in stories})
    say("%d nights in %.0f s: %s; lock errors: %s", len(stories), seconds, outcomes, locks or "none")
    table = [
        {
            "nights": len(stories),
            "at once": AT_ONCE,
            "rows a night": f"{stories[0]['rows']:,}",
            "seconds": round(seconds),
            "nights an hour": round(3600 * len(stories) / seconds),
            "verdicts": ", ".join(outcomes),
            "lock errors": len(locks),
        }
    ]
    goals = [
        Goal("nights of the backfill that failed", outcomes.count("FAILED"), "", at_most=0),
        Goal("lock errors in the logs of a backfill", len(locks), "", at_most=0),
    ]
    return Result(goals, {"A backfill": table}, [*stories, {"locked": locks}])


def wait_for_runs(ours: Project, nights: int) -> list[dict]:
    """Wait until the backfill has ended; return its runs."""

    def have_ended(runs: list[dict]) -> bool:
        return len(runs) == nights and all(run["state"] in ENDED for run in runs)

    runs = poll(
        lambda: ours.airflow.api("get", f"dags/{DAG}/dagRuns", params={"limit": 100})["dag_runs"],
        until=have_ended,
        every=1,
        seconds=SECONDS_A_NIGHT * nights,
    )
    if not have_ended(runs):
        raise TimeoutError(f"the backfill did not end; Airflow's log is {ours.airflow.log}")
    return runs


def lock_errors(folder: Path) -> list[str]:
    """Return the lines with lock errors in all logs of Airflow, its tasks and the warm host."""
    lines = []
    for path in sorted(folder.rglob("*.log")):
        lines += [line[:300] for line in path.read_text(errors="replace").splitlines() if LOCKED.search(line)]
    return lines


if __name__ == "__main__":
    main(run)
