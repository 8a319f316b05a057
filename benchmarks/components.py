"""Compares our nodes with TFX's on the same inputs: their times and their results.

From the snapshot to the data gate our nodes run as in a night, each in its own process, against TFX's under
LocalDagRunner. Statistics, transform and evaluator of both run in one pipeline, on the same examples and model.
"""

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from benchmarks import same, steps
from benchmarks.common import Goal, Result, forked, main, say, spread, warm

SIZES = {100_000: 3}  # rows -> rounds; large_night has TFX's components at 1,000,000
QUICK = {10_000: 1}
REPEATS = 3  # runs of our nodes up to the data gate in each round, which take only a second; the median counts
TRAIN_STEPS = 50
PAIRS = {  # part of the night -> our nodes, TFX's nodes, the factor by which ours must be faster
    "snapshot to data gate": (
        steps.TO_DATA_GATE,
        ("CsvExampleGen", "StatisticsGen", "ImportSchemaGen", "ExampleValidator"),
        20,
    ),
    "transform": (("transform",), ("Transform",), 3),
    "evaluator": (("evaluator",), ("Evaluator",), 3),
}


def run(quick: bool, folder: Path) -> Result:
    warm()
    goals: list[Goal] = []
    table: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    for rows, rounds in (QUICK if quick else SIZES).items():
        size_folder = folder / str(rows)
        measured = side_by_side(size_folder, rows, rounds)
        shutil.rmtree(size_folder)
        runs += [{"rows": rows, **measurement} for measurement in measured]
        for part, (ours, theirs, factor) in PAIRS.items():
            our_seconds, their_seconds = (
                [sum(measurement["seconds"][name] for name in names) for measurement in measured]
                for names in (ours, theirs)
            )
            times = statistics.median(their_seconds) / statistics.median(our_seconds)
            what = f"{part} at {rows:,} rows, against TFX's"
            goals.append(Goal(what, round(times, 1), "× faster", at_least=factor))
            seconds = {"ours, s": spread(our_seconds, 2), "TFX's, s": spread(their_seconds, 2)}
            table.append({"rows": f"{rows:,}", "part": part, **seconds, "times": round(times, 1)})
        for what, comparison in measured[-1]["same"].items():
            largest = max(measurement["same"][what]["largest"] for measurement in measured)
            goals.append(Goal(f"difference of {what} at {rows:,} rows", largest, "", at_most=comparison["allowed"]))
            shown = {"compared": comparison["compared"], "largest difference": largest}
            results.append({"rows": f"{rows:,}", "results": what, **shown})
    return Result(goals, {"Components": table, "Are the results the same": results}, runs)


def side_by_side(folder: Path, rows: int, rounds: int) -> list[dict[str, Any]]:
    """Return for each round the seconds of every node of both sides, and the differences of their results."""
    night = steps.planned(folder, rows, TRAIN_STEPS)
    steps.run(folder, night, ["snapshot"])
    runs = []
    for number in range(rounds):
        repeats = [steps.run(folder, night, steps.TO_DATA_GATE) for _ in range(REPEATS)]
        repeats.sort(key=lambda nodes: sum(node.seconds for node in nodes.values()))
        measured = forked(_both, folder, number, log=folder / f"{number}.log")
        runs.append(measured.value)
        runs[-1]["seconds"] |= {name: node.seconds for name, node in repeats[REPEATS // 2].items()}
        runs[-1]["to_data_gate"] = [sum(node.seconds for node in nodes.values()) for nodes in repeats]
        say("%s rows, round %d: %.0f s", f"{rows:,}", number + 1, measured.seconds)
    return runs


def _both(folder: Path, number: int) -> dict[str, Any]:
    """Run one pipeline with the nodes of both, which all read TFX's examples."""
    from tfx import v1 as tfx

    from benchmarks import tfx_pipeline
    from nightly.models import load_config
    from nightly.tfx.components.evaluator import SideBySideEvaluator
    from nightly.tfx.components.statistics import InProcessStatisticsGen
    from nightly.tfx.components.transform import InProcessTransform
    from nightly.tfx.pipeline import PREPROCESSING_FN

    config = load_config("complaints")
    example_gen = tfx_pipeline.example_gen_of(folder / "source")
    statistics_gen = tfx.components.StatisticsGen(examples=example_gen.outputs["examples"])
    schema = tfx.components.ImportSchemaGen(schema_file=tfx_pipeline.SCHEMA)
    validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema.outputs["schema"]
    )
    same_statistics = InProcessStatisticsGen(examples=example_gen.outputs["examples"]).with_id("same_statistics")
    transform = tfx.components.Transform(
        examples=example_gen.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=tfx_pipeline.PREPROCESSING_FN,
    )
    our_transform = InProcessTransform(
        examples=example_gen.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=PREPROCESSING_FN,
        custom_config=json.dumps({"model": "complaints"}),
    ).with_id("transform")
    trainer = tfx_pipeline.trainer_of(transform, schema, TRAIN_STEPS)
    evaluator = tfx.components.Evaluator(
        examples=example_gen.outputs["examples"], model=trainer.outputs["model"], eval_config=tfx_pipeline.eval_config()
    )
    our_evaluator = SideBySideEvaluator(
        examples=example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        label=config.data.label.model_dump_json(),
        metrics=json.dumps(sorted(config.model_gate.metrics)),
        slices=json.dumps(config.model_gate.slices),
        production_version=0,
    ).with_id("evaluator")
    alternating = [[our_transform, transform], [evaluator, our_evaluator]]
    if number % 2:
        alternating = [[transform, our_transform], [our_evaluator, evaluator]]
    nodes = [example_gen, statistics_gen, schema, validator, same_statistics, *alternating[0], trainer, *alternating[1]]
    round_folder = folder / f"round-{number}"
    seconds = tfx_pipeline.run(tfx_pipeline.as_pipeline(nodes, round_folder))
    return {"seconds": seconds, "same": same.results(round_folder / "root")}


if __name__ == "__main__":
    main(run)
