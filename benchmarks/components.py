"""Our nodes beside TFX's, on the same inputs; and whether their results are the same.

From the snapshot to the data gate our nodes run as in a night, a process each, against TFX's under LocalDagRunner.
Statistics, transform and evaluator of both are in one pipeline, where they read the very same examples and model.
"""

import json
import math
import shutil
import statistics
from pathlib import Path
from typing import Any

from benchmarks import steps
from benchmarks.common import Goal, Result, forked, main, say, spread, warm

SIZES = {100_000: 3}  # rows -> rounds; large_night has TFX's components at 1,000,000
QUICK = {10_000: 1}
TRAIN_STEPS = 50
PAIRS = {  # a part of the night -> our nodes, TFX's nodes, how many times faster ours must be
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
        place = folder / str(rows)
        found = side_by_side(place, rows, rounds)
        shutil.rmtree(place)
        runs += [{"rows": rows, **one} for one in found]
        for part, (ours, theirs, factor) in PAIRS.items():
            our_seconds, their_seconds = (
                [sum(one["seconds"][name] for name in names) for one in found] for names in (ours, theirs)
            )
            times = statistics.median(their_seconds) / statistics.median(our_seconds)
            what = f"{part} at {rows:,} rows, against TFX's"
            goals.append(Goal(what, round(times, 1), "× faster", at_least=factor))
            seconds = {"ours, s": spread(our_seconds, 2), "TFX's, s": spread(their_seconds, 2)}
            table.append({"rows": f"{rows:,}", "part": part, **seconds, "times": round(times, 1)})
        for what, one in found[-1]["same"].items():
            goals.append(Goal(f"difference of {what} at {rows:,} rows", one["largest"], "", at_most=one["allowed"]))
            same = {"compared": one["compared"], "largest difference": one["largest"]}
            results.append({"rows": f"{rows:,}", "results": what, **same})
    return Result(goals, {"Components": table, "Are the results the same": results}, runs)


def side_by_side(place: Path, rows: int, rounds: int) -> list[dict[str, Any]]:
    """The seconds of every node of both, and how far their results are apart, in each round."""
    night = steps.planned(place, rows, TRAIN_STEPS)
    steps.run(place, night, ["snapshot"])
    runs = []
    for number in range(rounds):
        to_gate = steps.run(place, night, steps.TO_DATA_GATE)
        measured = forked(_both, place, number, log=place / f"{number}.log")
        runs.append(measured.value)
        runs[-1]["seconds"] |= {name: step.seconds for name, step in to_gate.items()}
        say("%s rows, round %d: %.0f s", f"{rows:,}", number + 1, measured.seconds)
    return runs


def _both(folder: Path, number: int) -> dict[str, Any]:
    """One pipeline with the nodes of both, which all read TFX's examples, run once."""
    from tfx import v1 as tfx

    from benchmarks import tfx_pipeline
    from include.contracts.config import load_config
    from include.pipeline.components.evaluator import SideBySideEvaluator
    from include.pipeline.components.statistics import InProcessStatisticsGen
    from include.pipeline.components.transform import InProcessTransform
    from include.pipeline.pipeline import PREPROCESSING_FN

    config = load_config("complaints")
    csv = tfx_pipeline.example_gen_of(folder / "source")
    statistics_gen = tfx.components.StatisticsGen(examples=csv.outputs["examples"])
    schema = tfx.components.ImportSchemaGen(schema_file=tfx_pipeline.SCHEMA)
    validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema.outputs["schema"]
    )
    same_statistics = InProcessStatisticsGen(examples=csv.outputs["examples"]).with_id("same_statistics")
    transform = tfx.components.Transform(
        examples=csv.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=tfx_pipeline.PREPROCESSING_FN,
    )
    our_transform = InProcessTransform(
        examples=csv.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn=PREPROCESSING_FN,
        custom_config=json.dumps({"model": "complaints"}),
    ).with_id("transform")
    trainer = tfx_pipeline.trainer_of(transform, schema, TRAIN_STEPS)
    evaluator = tfx.components.Evaluator(
        examples=csv.outputs["examples"], model=trainer.outputs["model"], eval_config=tfx_pipeline.eval_config()
    )
    our_evaluator = SideBySideEvaluator(
        examples=csv.outputs["examples"],
        model=trainer.outputs["model"],
        label=config.data.label.column,
        positive=json.dumps(config.data.label.positive),
        metrics=json.dumps(sorted(config.model_gate.metrics)),
        slices=json.dumps(config.model_gate.slices),
        production_version=0,
    ).with_id("evaluator")
    alternating = [[our_transform, transform], [evaluator, our_evaluator]]
    if number % 2:
        alternating = [[transform, our_transform], [our_evaluator, evaluator]]
    own = [csv, statistics_gen, schema, validator, same_statistics, *alternating[0], trainer, *alternating[1]]
    place = folder / f"round-{number}"
    seconds = tfx_pipeline.run(tfx_pipeline.as_pipeline(own, place))
    return {"seconds": seconds, "same": _same(place / "root")}


def _same(root: Path) -> dict[str, dict[str, Any]]:
    """How far the results of both sides are apart."""
    import tensorflow_data_validation as tfdv
    import tensorflow_model_analysis as tfma
    import tensorflow_transform as tft

    def only(node: str, output: str) -> Path:
        (place,) = (root / node / output).iterdir()
        return place

    unequal, features = 0, 0
    for split in ("train", "eval"):
        place = f"Split-{split}/FeatureStats.pb"
        ours = tfdv.load_stats_binary(str(only("same_statistics", "statistics") / place))
        theirs = tfdv.load_stats_binary(str(only("StatisticsGen", "statistics") / place))
        named = [{str(f.path.step[0]): f for f in found.datasets[0].features} for found in (ours, theirs)]
        features += len(named[1])
        unequal += sum(not _equal(named[0].get(name), feature) for name, feature in named[1].items())
    found = {"statistics": {"compared": f"{features} features of both splits", "largest": unequal, "allowed": 0}}

    outputs = [tft.TFTransformOutput(str(only(node, "transform_graph"))) for node in ("transform", "Transform")]
    names = sorted(path.name for path in Path(outputs[1].transform_savedmodel_dir, "assets").iterdir())
    contents = [[Path(out.transform_savedmodel_dir, "assets", name).read_bytes() for name in names] for out in outputs]
    different = sum(a != b for a, b in zip(*contents, strict=True))
    found["vocabularies"] = {"compared": f"{len(names)} files, bytes", "largest": different, "allowed": 0}

    ours = tfma.load_eval_result(str(only("evaluator", "evaluation")))
    theirs = tfma.load_eval_result(str(only("Evaluator", "evaluation")))
    ours, theirs = _figures(ours), _figures(theirs)
    common = ours.keys() & theirs.keys()
    if not {name for _, name in common} >= {"auc", "binary_crossentropy", "example_count"}:
        raise RuntimeError(f"the two evaluations have too little in common: {sorted(map(str, common))}")
    largest = max(abs(ours[key] - theirs[key]) for key in common)
    found["metrics"] = {"compared": f"{len(common)} figures of all slices", "largest": largest, "allowed": 1e-6}
    return found


def _equal(one: Any, other: Any) -> bool:
    """Whether two messages are the same, numbers to the last digits of a sum in another order."""
    if one is None:
        return False
    from google.protobuf import json_format

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, dict):
            return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        if isinstance(a, list):
            return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
        return math.isclose(a, b, rel_tol=1e-9) if isinstance(a, float) and isinstance(b, float) else a == b

    return same(json_format.MessageToDict(one), json_format.MessageToDict(other))


def _figures(result: Any) -> dict[tuple, float]:
    return {
        (key, name): value["doubleValue"]
        for key, outputs in result.slicing_metrics
        for name, value in outputs[""][""].items()
        if "doubleValue" in value
    }


if __name__ == "__main__":
    main(run)
