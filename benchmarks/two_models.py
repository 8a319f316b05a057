"""Nights of two models at once, in one scheduler and one warm host, against the same nights in turn."""

from pathlib import Path

from benchmarks import night
from benchmarks.common import Result, main, say
from benchmarks.project import DAG, project

ROWS, STEPS = 100_000, 130
QUICK_ROWS = 10_000
TAXI = "taxi_retrain"  # real trips, in TFX's wheel
TAXI_NIGHTS = ("2015-05-01", "2015-05-02", "2015-05-03")


def run(quick: bool, folder: Path) -> Result:
    rows = QUICK_ROWS if quick else ROWS
    with project(folder) as ours:
        night.write(ours.source, rows, 0)
        ours.night(DAG, **night.request(0, STEPS))  # warms the host
        taxi = ours.night(TAXI, as_of=TAXI_NIGHTS[0], release="yes")
        night.write(ours.source, rows, 1)
        alone = [ours.night(DAG, **night.request(1, STEPS)), ours.night(TAXI, as_of=TAXI_NIGHTS[1], release="yes")]
        night.write(ours.source, rows, 2)
        taxi_run = ours.trigger(TAXI, as_of=TAXI_NIGHTS[2], release="yes")
        both = ours.night(DAG, **night.request(2, STEPS))
        ours.wait(TAXI, taxi_run)
        other = ours.story(TAXI, taxi_run)
    if {story["outcome"] for story in (*alone, both, other, taxi)} != {"RELEASED"}:
        raise RuntimeError(f"a night did not release: {alone}, {both}, {other}")
    sum_alone = sum(story["seconds"] for story in alone)
    say("one after the other %.1f s, at once %.1f s", sum_alone, both["seconds"])
    table = [
        {
            "complaints alone, s": round(alone[0]["seconds"], 1),
            "taxi alone, s": round(alone[1]["seconds"], 1),
            "both at once, s": round(both["seconds"], 1),
            "of their sum": round(both["seconds"] / sum_alone, 2),
        }
    ]
    return Result(
        [], {f"Two models in one night, {rows:,} complaints and the taxi trips": table}, [*alone, both, other]
    )


if __name__ == "__main__":
    main(run)
