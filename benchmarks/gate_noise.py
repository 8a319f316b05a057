"""How often the model gate holds good models, and broken ones: python -m benchmarks.gate_noise [--pairs N] [--broken N]

Real taxi trips, three labels: will the passenger tip well (binary), how does he pay (classes), what does the ride cost
(number). Each training is the taxi model's own preprocessing and network, on arrays in memory: about a second.

same     two trainings on the same rows with other seeds: each holding is a false alarm
flipped  a tenth of the training labels is exchanged for those of other rows
blind    the most useful feature is constant, in training and in serving

Each pair is judged twice, by the gate with standard errors and by the gate of before, which compares points. Every seed
is fixed. The whole campaign takes about half an hour on 2 cores; the table goes to standard output, as Markdown.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.report import _table
from nightly.evaluation.judging import judge
from nightly.evaluation.measured import Measured, Plan
from nightly.evaluation.record import CANDIDATE, PRODUCTION, evaluate, values_of
from nightly.evaluation.scored import Scored
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.config import ModelConfig
from nightly.records.evaluation import Evaluation
from nightly.records.label_spec import LabelSpec

INSIDE = "tfx/examples/chicago_taxi_pipeline/data/big_tipper_label/data.csv"
EVAL_SHARE = 0.2
FLIPPED = 0.1  # of the training labels
PRODUCTIONS = 20  # models that candidates are compared with in turn
STEPS, BATCH = 150, 256
SCENARIOS = ("same", "flipped", "blind")
GOALS = {"same": (0, 5), "flipped": (90, 100), "blind": (90, 100)}  # percent held


@dataclass(frozen=True)
class Task:
    """A label of the trips, and what its gate allows."""

    name: str
    label: dict[str, Any]  # data.label
    hidden: tuple[str, ...]  # features that tell the label
    useful: str  # the feature whose loss must be noticed
    gate: dict[str, Any]  # model_gate

    @property
    def config(self) -> ModelConfig:
        text = load_config("taxi").model_dump()
        text["data"]["label"], text["model_gate"] = self.label, {"slices": ["payment_type"], **self.gate}
        return ModelConfig.parse(text, where=self.name)


TASKS = (
    Task(
        "binary: tips more than 20 %",
        {"kind": "binary", "column": "big_tipper", "positive": ["1"]},
        (),
        "payment_type",
        {
            "metrics": {"auc": {"max_drop": 0.01}, "binary_crossentropy": {"max_rise": 0.02}},
            "slice_metrics": {"binary_crossentropy": {"max_rise": 0.05}},
        },
    ),
    Task(
        "classes: the way of payment",
        {"kind": "classes", "column": "payment_type", "classes": "learned"},
        ("payment_type",),
        "company",
        {
            "metrics": {"accuracy": {"max_drop": 0.02}, "categorical_crossentropy": {"max_rise": 0.02}},
            "class_metrics": {"recall": {"max_drop": 0.1}},
            "slices": [],
        },
    ),
    Task(
        "number: the fare",
        {"kind": "number", "column": "fare", "transform": "log1p"},
        ("fare",),
        "trip_miles",
        {
            "metrics": {"mean_absolute_error": {"max_rise": 0.2}, "mean_squared_logarithmic_error": {"max_rise": 0.01}},
            "slice_metrics": {"mean_absolute_error": {"max_rise": 0.5}},
        },
    ),
)


@dataclass
class Rows:
    """The trips of a split, transformed."""

    features: dict[str, np.ndarray]  # [rows, 1]
    labels: np.ndarray  # as in Scored
    payment: pa.Array

    def blind(self, feature: str) -> "Rows":
        constant = np.broadcast_to(self.features[feature][:1], self.features[feature].shape)
        return Rows(self.features | {feature: np.ascontiguousarray(constant)}, self.labels, self.payment)


@dataclass
class Trips:
    """All trips, transformed once by the taxi model's preprocessing."""

    frame: pd.DataFrame
    features: dict[str, np.ndarray]
    transform: Any  # tft.TFTransformOutput
    is_eval: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.is_eval = np.random.default_rng(0).random(len(self.frame)) < EVAL_SHARE

    def split(self, task: Task, rows: np.ndarray, classes: list[str]) -> Rows:
        part = self.frame[rows]
        column = part[task.label["column"]]
        if task.label["kind"] == "classes":
            labels = column.map({name: index for index, name in enumerate(classes)}).fillna(len(classes) - 1)
            labels = labels.to_numpy(np.int64)
        else:
            labels = column.to_numpy(np.float32)
        features = {name: values[rows] for name, values in self.features.items()}
        payment = pa.array(part.payment_type.fillna("(missing)"))
        whole = Rows(features, labels, payment)
        for name in task.hidden:
            whole = whole.blind(name)
        return whole


def read_trips(folder: Path) -> Trips:
    """Transform the real trips as a night does."""
    import tensorflow as tf
    import tensorflow_transform as tft
    from tensorflow_transform.tf_metadata import dataset_metadata

    from nightly.schemas.curated import read_schema
    from nightly.training.transforming import LABEL, preprocessing_fn
    from nightly.transform.engine import write_transform_graph

    site = Paths.from_environment().ml_python.parent.parent / "lib"
    frame = pd.read_csv(next(site.glob(f"python3*/site-packages/{INSIDE}"))).dropna(subset=["fare"])
    config = load_config("taxi")
    schema = read_schema(config.folder / "schema.pbtxt")
    columns = [f.name for f in schema.feature if f.name in frame]
    for feature in [f for f in schema.feature if f.name not in columns]:
        schema.feature.remove(feature)
    examples = [_example(row, schema) for row in frame[columns].to_dict("records")]
    split = folder / "Split-train"
    split.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(split / "rows")) as writer:
        for example in examples:
            writer.write(example)
    graph = folder / "graph"
    as_taxi = partial(preprocessing_fn, custom_config={"model": "taxi"})
    write_transform_graph(as_taxi, str(split), dataset_metadata.DatasetMetadata(schema), graph)
    transform = tft.TFTransformOutput(str(graph))
    outputs = transform.transform_raw_features(tf.io.parse_example(examples, transform.raw_feature_spec()))
    features = {name: values.numpy() for name, values in outputs.items() if name != LABEL}
    return Trips(frame.reset_index(drop=True), features, transform)


def _example(row: dict[str, Any], schema: Any) -> bytes:
    import tensorflow as tf
    from tensorflow_metadata.proto.v0 import schema_pb2

    example = tf.train.Example()
    for feature in schema.feature:
        value = row[feature.name]
        if value != value:
            continue
        target = example.features.feature[feature.name]
        if feature.type == schema_pb2.INT:
            target.int64_list.value.append(int(value))
        elif feature.type == schema_pb2.FLOAT:
            target.float_list.value.append(float(value))
        else:
            target.bytes_list.value.append(str(value).encode())
    return example.SerializeToString()


class Trainer:
    """Trains the taxi network again and again. It is traced once: a seed only sets weights and the order of rows."""

    def __init__(self, task: Task, trips: Trips, outputs: int):
        self.task, self.trips, self.outputs = task, trips, outputs
        self.model = self._network()
        self.optimizer_state: list[np.ndarray] | None = None

    def _network(self) -> Any:
        import keras

        from include.models.taxi.model import build_model

        kind, settings = self.task.label["kind"], load_config("taxi").training.hyperparameters
        model = build_model(self.trips.transform, settings)
        if kind != "binary":  # another last layer on the same network
            head = next(layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.Dense))
            activation = "softmax" if kind == "classes" else None
            model = keras.Model(model.inputs, keras.layers.Dense(self.outputs, activation=activation)(head.input))
            loss = "sparse_categorical_crossentropy" if kind == "classes" else "mean_squared_error"
            model.compile(optimizer=keras.optimizers.Adam(settings["learning_rate"]), loss=loss)
        return model

    def train(self, rows: Rows, labels: np.ndarray, seed: int) -> None:
        import keras

        keras.utils.set_random_seed(seed)
        self.model.set_weights(self._network().get_weights())
        variables = self.model.optimizer.variables
        if self.optimizer_state is None:
            self.model.optimizer.build(self.model.trainable_variables)
            variables = self.model.optimizer.variables
            self.optimizer_state = [variable.numpy() for variable in variables]
        for variable, value in zip(variables, self.optimizer_state, strict=True):
            variable.assign(value)
        random = np.random.default_rng(seed)
        passes = -(-STEPS * BATCH // len(labels))
        order = np.concatenate([random.permutation(len(labels)) for _ in range(passes)])[: STEPS * BATCH]
        target = np.log1p(labels) if self.task.label["kind"] == "number" else labels
        inputs = {name: rows.features[name][order] for name in self._names}
        self.model.fit(inputs, target[order], batch_size=BATCH, shuffle=False, verbose=0)

    def answer(self, rows: Rows) -> np.ndarray:
        """Return the scores, as in Scored."""
        answers = self.model.predict({name: rows.features[name] for name in self._names}, batch_size=4096, verbose=0)
        kind = self.task.label["kind"]
        if kind == "classes":
            return answers
        return np.expm1(answers[:, 0]) if kind == "number" else answers[:, 0]

    @property
    def _names(self) -> list[str]:
        return [tensor.name for tensor in self.model.inputs]


def classes_of(task: Task, trips: Trips) -> list[str]:
    """Return the classes as a night learns them."""
    if task.label["kind"] != "classes":
        return []
    counts = trips.frame[task.label["column"]][~trips.is_eval].value_counts()
    return [*counts[counts >= task.config.data.label.min_class_rows].index, "(other)"]


def spec_of(task: Task, classes: list[str], labels: np.ndarray) -> LabelSpec:
    if task.label["kind"] == "classes":
        constant = (np.bincount(labels, minlength=len(classes)) / len(labels)).tolist()
    else:
        constant = [float((np.log1p(labels) if task.label["kind"] == "number" else labels).mean())]
    return LabelSpec.of(task.config.data.label, classes).model_copy(update={"constant": constant})


def evaluated(task: Task, plan: Plan, spec: LabelSpec, rows: Rows, answers: dict[str, np.ndarray]) -> Evaluation:
    columns = dict.fromkeys(plan.slices, rows.payment)
    measured = Measured(plan).add(Scored(rows.labels, answers, columns))
    return evaluate(measured, values_of(measured), spec, production_version=1)


def held_by(config: ModelConfig, measured: Evaluation) -> tuple[list[str], list[str]]:
    """Return the checks that hold the candidate now, and before: by points, and without the constant answer."""
    points = measured.model_copy(update={"differences": {}, "better_than_constant": None})
    return tuple(
        [reason.check for reason in judge(config, evaluation) if reason.held] for evaluation in (measured, points)
    )


def campaign(task: Task, trips: Trips, pairs: int, broken: int) -> Iterator[tuple[str, Evaluation]]:
    """Yield each scenario's name and the evaluation of one candidate in it."""
    classes = classes_of(task, trips)
    train, held_out = (trips.split(task, rows, classes) for rows in (~trips.is_eval, trips.is_eval))
    config, spec = task.config, spec_of(task, classes, train.labels)
    gate = config.model_gate
    names = {*gate.metrics, *gate.slice_metrics, *(f"{m}:{name}" for m in gate.class_metrics for name in classes)}
    plan = Plan(task.label["kind"], [CANDIDATE, PRODUCTION], sorted(names), gate.slices, classes)
    trainer, productions = Trainer(task, trips, max(len(classes), 1)), []
    for seed in range(min(PRODUCTIONS, pairs)):
        trainer.train(train, train.labels, seed)
        productions.append(trainer.answer(held_out))
    numbers = {"same": pairs, "flipped": broken, "blind": broken}
    for scenario, seed in [(name, n) for name in SCENARIOS for n in range(numbers[name])]:
        random = np.random.default_rng(10_000 + seed)
        labels, rows, asked = train.labels.copy(), train, held_out
        if scenario == "flipped":
            chosen = np.flatnonzero(random.random(len(labels)) < FLIPPED)
            flipped = labels[random.permutation(len(labels))[: len(chosen)]]
            labels[chosen] = 1 - labels[chosen] if task.label["kind"] == "binary" else flipped
        elif scenario == "blind":
            rows, asked = train.blind(task.useful), held_out.blind(task.useful)
        trainer.train(rows, labels, 1000 + seed)
        answers = {CANDIDATE: trainer.answer(asked), PRODUCTION: productions[seed % len(productions)]}
        yield scenario, evaluated(task, plan, spec, held_out, answers)


def table(tasks: tuple[Task, ...], trips: Trips, pairs: int, broken: int, details: Path | None) -> list[dict[str, Any]]:
    """Return a row for each task and scenario: how many of how many are held, now and before."""
    rows, found = [], []
    for task in tasks:
        held, checks = Counter(), Counter()
        totals = Counter()
        for scenario, evaluation in campaign(task, trips, pairs, broken):
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
    parser.add_argument("--task", choices=[task.label["kind"] for task in TASKS], help="one label only")
    parser.add_argument("--details", type=Path, help="a JSON file for every pair's metrics and findings")
    options = parser.parse_args(args)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    began = time.monotonic()
    tasks = tuple(task for task in TASKS if options.task in (None, task.label["kind"]))
    with tempfile.TemporaryDirectory() as folder:
        rows = table(tasks, read_trips(Path(folder)), options.pairs, options.broken, options.details)
    print(f"\n{_table(rows)}\n\n{(time.monotonic() - began) / 60:.0f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
