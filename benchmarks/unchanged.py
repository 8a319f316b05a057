"""A night whose data did not change since the last one, whose results are reused."""

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
            story = ours.night(DAG, **night.request(number, STEPS))
            say("%s: %.1f s, %s", title, story["seconds"], story["outcome"])
            nights.append({"night": title, **story})
    table = [
        {"night": story["night"], "seconds": round(story["seconds"], 1), "outcome": story["outcome"]}
        | {task: seconds for task, seconds in story["tasks"].items() if seconds}  # without skipped tasks
        for story in nights
    ]
    goals = [Goal(f"a night of {story['night']}", round(story["seconds"], 1), "s", at_most=20) for story in nights[1:]]
    return Result(goals, {f"Nights whose {rows:,} rows did not change; seconds of each task": table}, nights)


if __name__ == "__main__":
    main(run)
