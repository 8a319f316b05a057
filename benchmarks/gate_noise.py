"""How often the model gate holds good models, and broken ones.

The models taxi (binary: will the passenger tip well) and fares (number: what will the trip cost) with their own gates,
on all trips and on those of a night. The fare when the distance is known, and learned from the squared error, unlike
fares. And which digit is written (classes). Each training takes about a second.

same     two trainings on the same rows with other seeds: each holding is a false alarm
flipped  a tenth of the training labels is wrong: another class, or another row's number
blind    the most useful feature is constant, in training and in serving

Each pair is judged twice, by the gate with standard errors and by the gate of before, which compares points. Every seed
is fixed; the bounds were chosen with other seeds.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from benchmarks.common import Goal, Result, main, say
from benchmarks.gate_trainings import A_NIGHT, Rows, Table, Task, Trainer, read, spec_of, taxi_with
from nightly.evaluation.judging import judge
from nightly.evaluation.measured import Measured, Plan
from nightly.evaluation.record import CANDIDATE, PRODUCTION, evaluate, values_of
from nightly.evaluation.scored import Scored
from nightly.models import load_config
from nightly.records.config import ModelConfig
from nightly.records.evaluation import Evaluation
from nightly.records.label_spec import LabelSpec

FLIPPED = 0.1  # of the training labels
PRODUCTIONS = 20  # models that candidates are compared with in turn
SCENARIOS = ("same", "flipped", "blind")
SEEDS = 1_000_000  # the first seed of a candidate; the bounds were chosen with smaller ones
PAIRS, BROKEN = 200, 50
QUICK_PAIRS, QUICK_BROKEN = 3, 2
GOALS = {"same": {"at_most": 5}, "flipped": {"at_least": 90}, "blind": {"at_least": 90}}  # percent held
ROBUST = "fares"  # learns from the absolute error, so a tenth of wrong labels does not make it worse: see the docs

USEFUL = {"taxi": ("payment_type",), "fares": ("miles_east", "miles_north", "log_miles")}  # of the shipped models
WINDOWS = {"all trips": None, "a night": A_NIGHT}


def tasks() -> list[Task]:
    shipped = [
        Task(f"{name}, {rows}", load_config(name), USEFUL[name], window)
        for name in ("taxi", "fares")
        for rows, window in WINDOWS.items()
    ]
    fare = taxi_with(
        label={"kind": "number", "column": "fare", "transform": "log1p"},
        gate={
            "metrics": {
                "mean_absolute_error": {"max_rise": 0.08},
                "mean_squared_logarithmic_error": {"max_rise": 0.006},
            },
            "slices": ["payment_type"],
            "slice_metrics": {"mean_absolute_error": {"max_rise": 0.5}},
        },
        steps=1000,
    )
    digit = taxi_with(
        label={"kind": "classes", "column": "digit", "classes": "learned"},
        gate={
            "metrics": {"accuracy": {"max_drop": 0.02}, "categorical_crossentropy": {"max_rise": 0.02}},
            "class_metrics": {"recall": {"max_drop": 0.1}},
        },
        steps=150,
    )
    return [
        *shipped,
        Task("fare by distance, all trips", fare, ("trip_miles",), hidden=("fare", "trip_seconds")),
        Task("digit", digit, ("top_left",)),
    ]


def evaluated(plan: Plan, spec: LabelSpec, rows: Rows, answers: dict[str, np.ndarray]) -> Evaluation:
    measured = Measured(plan).add(Scored(rows.labels, answers, rows.columns))
    return evaluate(measured, values_of(measured), spec, production_version=1)


def held_by(config: ModelConfig, measured: Evaluation) -> tuple[list[str], list[str]]:
    """Return the checks that hold the candidate now, and before: by points, and without the constant answer."""
    points = measured.model_copy(update={"differences": {}, "better_than_constant": None, "constant_loss": ""})
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
    trainer, productions = Trainer(task, data, spec.constant[0]), []
    for seed in range(min(PRODUCTIONS, pairs)):
        trainer.train(train, train.labels, 2 * SEEDS + seed)
        productions.append(trainer.answer(held_out))
    numbers = {"same": pairs, "flipped": broken, "blind": broken}
    for scenario, seed in [(name, n) for name in SCENARIOS for n in range(numbers[name])]:
        labels, rows, asked = train.labels, train, held_out
        if scenario == "flipped":
            labels = flipped(task, labels, len(classes), np.random.default_rng(SEEDS + seed))
        elif scenario == "blind":
            rows, asked = train.blind(*task.useful), held_out.blind(*task.useful)
        trainer.train(rows, labels, SEEDS + seed)
        answers = {CANDIDATE: trainer.answer(asked), PRODUCTION: productions[seed % len(productions)]}
        yield scenario, evaluated(plan, spec, held_out, answers)


def run(quick: bool, folder: Path) -> Result:
    pairs, broken = (QUICK_PAIRS, QUICK_BROKEN) if quick else (PAIRS, BROKEN)
    goals, rows, runs = [], [], []
    for number, task in enumerate(tasks()):
        data = read(task, folder / str(number))
        held: dict[str, list[list[str]]] = {name: [] for name in SCENARIOS}
        by_points: dict[str, list[list[str]]] = {name: [] for name in SCENARIOS}
        for scenario, evaluation in campaign(task, data, pairs, broken):
            now, before = held_by(task.config, evaluation)
            held[scenario].append(now)
            by_points[scenario].append(before)
        for name in SCENARIOS:
            share = _percent(held[name])
            checks, of_points = (Counter(chain.from_iterable(of[name])) for of in (held, by_points))
            runs.append(
                {"model": task.name, "scenario": name, "held by": dict(checks), "held by points": dict(of_points)}
            )
            rows.append(
                {
                    "model": task.name,
                    "rows": f"{len(data.frame) - data.is_eval.sum():,} + {data.is_eval.sum():,}",
                    "trainings": f"{name}, {len(held[name])}",
                    "held": f"{share:.1f} %",
                    "held by points": f"{_percent(by_points[name]):.1f} %",
                    "most often by": next(iter(checks), ""),
                }
            )
            say("%s, %s: %.1f %% held", task.name, name, share)
            if (name, task.config.name) != ("flipped", ROBUST):
                goals.append(Goal(f"held of {name}, {task.name}", round(share, 1), "%", **GOALS[name]))
    return Result(goals, {"Trainings that the model gate holds": rows}, runs)


def _percent(held: list[list[str]]) -> float:
    return 100 * sum(map(bool, held)) / len(held)


if __name__ == "__main__":
    main(run)
