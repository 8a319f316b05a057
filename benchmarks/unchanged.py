"""A night whose data did not change since the last one: what was done then is used again."""

from pathlib import Path

from benchmarks import night
from benchmarks.common import Goal, Result, main, say
from benchmarks.project import DAG, project

ROWS, STEPS = 100_000, 130
QUICK_ROWS = 10_000


def run(quick: bool, folder: Path) -> Result:
    rows = QUICK_ROWS if quick else ROWS
    with project(folder) as ours:
        night.write(ours.source, rows, 0)
        nights = []
        for title, number in (("new data", 0), ("the same data, the same day", 0), ("the same data, a day later", 1)):
            found = ours.night(DAG, **night.request(number, STEPS))
            say("%s: %.1f s, %s", title, found["seconds"], found["outcome"])
            nights.append({"night": title, **found})
    table = [
        {"night": one["night"], "seconds": round(one["seconds"], 1), "outcome": one["outcome"]}
        | {task: seconds for task, seconds in one["tasks"].items() if seconds}  # without those that were skipped
        for one in nights
    ]
    goals = [Goal(f"a night of {one['night']}", round(one["seconds"], 1), "s", at_most=20) for one in nights[1:]]
    return Result(goals, {f"Nights whose {rows:,} rows did not change; seconds of each task": table}, nights)


if __name__ == "__main__":
    main(run)
