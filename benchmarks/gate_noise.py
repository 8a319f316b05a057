"""How often the model gate holds good models, and broken ones: python -m benchmarks.gate_noise [--pairs N] [--broken N]

Three labels of real rows: will the passenger tip well (binary), what does the ride cost (number), which product is the
complaint about (classes). Each training is the model's own preprocessing and network, on arrays in memory.

same     two trainings on the same rows with other seeds: each holding is a false alarm
flipped  a tenth of the training labels is wrong: another class, or another row's number
blind    the most useful feature is constant, in training and in serving

Each pair is judged twice, by the gate with standard errors and by the gate of before, which compares points. Every seed
is fixed. The whole campaign takes about an hour on 2 cores; the table goes to standard output, as Markdown.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gate_trainings import Rows, Table, Task, Trainer, data_file, read, spec_of
from benchmarks.report import _table
from nightly.evaluation.judging import judge
from nightly.evaluation.measured import Measured, Plan
from nightly.evaluation.record import CANDIDATE, PRODUCTION, evaluate, values_of
from nightly.evaluation.scored import Scored
from nightly.records.config import ModelConfig
from nightly.records.evaluation import Evaluation
from nightly.records.label_spec import LabelSpec

FLIPPED = 0.1  # of the training labels
PRODUCTIONS = 20  # models that candidates are compared with in turn
SCENARIOS = ("same", "flipped", "blind")
GOALS = {"same": (0, 5), "flipped": (90, 100), "blind": (90, 100)}  # percent held

TASKS = (
    Task(
        "binary: tips more than 20 %",
        model="taxi",
        label={"kind": "binary", "column": "big_tipper", "positive": ["1"]},
        useful="payment_type",
        steps=150,
        gate={
            "metrics": {"auc": {"max_drop": 0.01}, "binary_crossentropy": {"max_rise": 0.02}},
            "slices": ["payment_type"],
            "slice_metrics": {"binary_crossentropy": {"max_rise": 0.05}},
        },
    ),
    Task(
        "number: the fare",
        model="taxi",
        label={"kind": "number", "column": "fare", "transform": "log1p"},
        hidden=("fare",),
        useful="trip_miles",
        steps=300,
        gate={
            "metrics": {
                "mean_absolute_error": {"max_rise": 0.05},
                "mean_squared_logarithmic_error": {"max_rise": 0.005},
            },
            "slices": ["payment_type"],
            "slice_metrics": {"mean_absolute_error": {"max_rise": 0.5}},
        },
    ),
    Task(
        "classes: the product",
        model="complaints",
        label={"kind": "classes", "column": "product", "classes": "learned"},
        hidden=("product",),
        useful="issue",
        steps=300,
        gate={
            "metrics": {"accuracy": {"max_drop": 0.02}, "categorical_crossentropy": {"max_rise": 0.05}},
            "class_metrics": {"recall": {"max_drop": 0.1}},
        },
    ),
)


def evaluated(plan: Plan, spec: LabelSpec, rows: Rows, answers: dict[str, np.ndarray]) -> Evaluation:
    measured = Measured(plan).add(Scored(rows.labels, answers, rows.columns))
    return evaluate(measured, values_of(measured), spec, production_version=1)


def held_by(config: ModelConfig, measured: Evaluation) -> tuple[list[str], list[str]]:
    """Return the checks that hold the candidate now, and before: by points, and without the constant answer."""
    points = measured.model_copy(update={"differences": {}, "better_than_constant": None})
    return tuple(
        [reason.check for reason in judge(config, evaluation) if reason.held] for evaluation in (measured, points)
    )


def flipped(task: Task, labels: np.ndarray, classes: int, random: np.random.Generator) -> np.ndarray:
    """Return labels of which a tenth are wrong."""
    chosen, wrong = random.random(len(labels)) < FLIPPED, labels.copy()
    if task.kind == "binary":
        wrong[chosen] = 1 - labels[chosen]
    elif task.kind == "classes":
        wrong[chosen] = (labels[chosen] + random.integers(1, classes, chosen.sum())) % classes
    else:
        wrong[chosen] = random.choice(labels, chosen.sum())
    return wrong


def campaign(task: Task, data: Table, pairs: int, broken: int) -> Iterator[tuple[str, Evaluation]]:
    """Yield each scenario's name and the evaluation of one candidate in it."""
    classes, (train, held_out) = data.classes(task), data.splits(task)
    gate, spec = task.config.model_gate, spec_of(task, classes, train.labels)
    names = {*gate.metrics, *gate.slice_metrics, *(f"{m}:{name}" for m in gate.class_metrics for name in classes)}
    plan = Plan(task.kind, [CANDIDATE, PRODUCTION], sorted(names), gate.slices, classes)
    trainer, productions = Trainer(task, data, train), []
    for seed in range(min(PRODUCTIONS, pairs)):
        trainer.train(train, train.labels, seed)
        productions.append(trainer.answer(held_out))
    numbers = {"same": pairs, "flipped": broken, "blind": broken}
    for scenario, seed in [(name, n) for name in SCENARIOS for n in range(numbers[name])]:
        labels, rows, asked = train.labels, train, held_out
        if scenario == "flipped":
            labels = flipped(task, labels, len(classes), np.random.default_rng(10_000 + seed))
        elif scenario == "blind":
            rows, asked = train.blind(task.useful), held_out.blind(task.useful)
        trainer.train(rows, labels, 1000 + seed)
        answers = {CANDIDATE: trainer.answer(asked), PRODUCTION: productions[seed % len(productions)]}
        yield scenario, evaluated(plan, spec, held_out, answers)


def table(tasks: list[Task], folder: Path, pairs: int, broken: int, details: Path | None) -> list[dict[str, Any]]:
    """Return a row for each task and scenario: how many of how many are held, now and before."""
    rows, found = [], []
    data = {model: read(model, folder) for model in sorted({task.model for task in tasks})}
    for task in tasks:
        held, checks = Counter(), Counter()
        totals = Counter()
        for scenario, evaluation in campaign(task, data[task.model], pairs, broken):
            now, before = held_by(task.config, evaluation)
            totals[scenario] += 1
            held[scenario, "now"] += bool(now)
            held[scenario, "before"] += bool(before)
            checks.update((scenario, check) for check in now)
            found.append({"task": task.name, "scenario": scenario, "now": now, "before": before})
            found[-1] |= {"metrics": evaluation.candidate[""], "production": evaluation.production[""]}
        for scenario in SCENARIOS:
            low, high = GOALS[scenario]
            shares = {side: 100 * held[scenario, side] / totals[scenario] for side in ("now", "before")}
            by = [(check, n) for (name, check), n in checks.most_common() if name == scenario]
            rows.append(
                {
                    "label": task.name,
                    "trainings": f"{scenario}, {totals[scenario]}",
                    "wanted held": f"at most {high} %" if not low else f"at least {low} %",
                    "held": f"{shares['now']:.0f} %",
                    "held by points": f"{shares['before']:.0f} %",
                    "met": "yes" if low <= shares["now"] <= high else "**no**",
                    "most by": f"{by[0][0]} ({by[0][1]})" if by else "",
                }
            )
        print(_table(rows[-len(SCENARIOS) :]), flush=True)
    if details:
        details.write_text(json.dumps(found, indent=1) + "\n")
    return rows


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate_noise", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200, help="pairs of the same training (default: 200)")
    parser.add_argument("--broken", type=int, default=50, help="broken trainings of each kind (default: 50)")
    parser.add_argument("--task", choices=[task.kind for task in TASKS], help="one label only")
    parser.add_argument("--details", type=Path, help="a JSON file for every pair's metrics and findings")
    options = parser.parse_args(args)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    began = time.monotonic()
    tasks = [task for task in TASKS if options.task in (None, task.kind)]
    for task in [task for task in tasks if not data_file(task.model).exists()]:
        print(f"{task.name} is left out: {data_file(task.model)} does not exist")
        tasks.remove(task)
    with tempfile.TemporaryDirectory() as folder:
        rows = table(tasks, Path(folder), options.pairs, options.broken, options.details)
    print(f"\n{_table(rows)}\n\n{(time.monotonic() - began) / 60:.0f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
