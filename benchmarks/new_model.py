"""From a public table to a first night, by `bin/new` and `bin/night`, and the network beside gradient boosting.

scikit-learn's HistGradientBoosting gets the same columns and rows as the network, from the night's own examples. It is
trained as it comes and with early stopping, and the better of both on the eval rows counts: a favour to it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common import Goal, Result, main, say
from benchmarks.public_tables import TABLES, PublicTable, write
from nightly.io.paths import ROOT, Paths
from nightly.models import load_config
from nightly.records.data_config import column_name
from nightly.records.label_spec import OUTPUTS, LabelSpec

QUICK = ("wine", "diabetes")
GREEN = 0  # the exit status of a night whose model is accepted
LIMIT_SECONDS = 300
AUC_MARGIN, PERCENT_MARGIN = 0.01, 2.0  # how much worse than boosting counts as equal
RESAMPLES = 400
CATEGORIES = 250  # that HistGradientBoosting takes; rarer values share one
SMALLEST = 1e-7  # probability


def run(quick: bool, folder: Path) -> Result:
    goals, times, scores = [], [], []
    for name in QUICK if quick else TABLES:
        table = TABLES[name]
        path = write(table, folder / "tables")
        seconds, status = first_night(table, path, folder)
        say("%s: exit status %s, after %.0f s by bin/new and %.0f s by bin/night", name, status, *seconds)
        goals.append(Goal(f"{name}: from data to a green night", round(sum(seconds)), "s", at_most=LIMIT_SECONDS))
        goals.append(Goal(f"{name}: exit status of its first night", status, "", at_most=GREEN))
        times.append(
            {"table": name, "rows": f"{len(table.read()):,}", "bin/new, s": seconds[0], "bin/night, s": seconds[1]}
        )
        if status in (GREEN, 3):  # a held night has a model too, if the model gate held it
            scores.append(compared(table))
            say("%s", scores[-1])
            goals.append(goal_of(table, scores[-1]))
    tables = {
        "From data to the first verdict": times,
        "The default network beside HistGradientBoosting, on the rows that the first night judged by": [
            {key: value for key, value in row.items() if not key.startswith("_")} for row in scores
        ],
    }
    return Result(goals, tables, [*times, *scores])


def first_night(table: PublicTable, path: Path, folder: Path) -> tuple[tuple[float, float], int]:
    """Run both commands; return the seconds of each, and the exit status of the night, or of bin/new if it failed."""
    wishes = [
        "--label",
        column_name(table.label),
        "--kind",
        table.kind,
        *(["--time", table.time.lower()] * bool(table.time)),
    ]
    began = time.monotonic()
    status = _command(["bin/new", table.model, path, *wishes, "--yes"], folder / f"{table.name}.new.log")
    created = time.monotonic()
    if not status:
        status = _command(["bin/night", table.model], folder / f"{table.name}.night.log")
    return (round(created - began, 1), round(time.monotonic() - created, 1)), status


def _command(command: list[Any], log: Path) -> int:
    with log.open("w") as file:
        return subprocess.run([ROOT / command[0], *command[1:]], stdout=file, stderr=subprocess.STDOUT).returncode


def compared(table: PublicTable) -> dict[str, Any]:
    """Return the row of the table: both models' error on the eval rows, and how far apart they are."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.new_model", "--compare", table.name],
        capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])


def goal_of(table: PublicTable, row: dict[str, Any]) -> Goal:
    """Return the goal: for two classes, the AUC or the log loss may reach it."""
    percent = Goal(f"{table.name}: {row['metric']}, above boosting's", row["_percent"], "%", at_most=PERCENT_MARGIN)
    if percent.met or table.kind != "binary":
        return percent
    return Goal(f"{table.name}: AUC, below boosting's", row["_auc"], "", at_most=AUC_MARGIN)


def compare(name: str) -> dict[str, Any]:
    """Load the model and the examples of the first night, train boosting on the same rows, and compare them."""
    table = TABLES[name]
    config = load_config(table.model)
    root = Paths.from_environment().pipeline / table.model
    (model,) = root.glob("trainer/model/*/Format-Serving")
    spec = LabelSpec.load(model / "assets.extra/label.json")
    (examples,) = root.glob("examples/examples/*")
    records = {split: read_records(examples / f"Split-{split}") for split in ("train", "eval")}
    features = import_module(f"include.models.{table.model}.features").FEATURES
    frames = {split: frame_of(rows, [*features.numbers, *features.categories]) for split, rows in records.items()}
    labels = {split: labels_of(frame_of(rows, [config.data.label.column]), spec) for split, rows in records.items()}
    known = {split: ~np.isnan(values) for split, values in labels.items()}
    ours = network_answers(model, np.array(records["eval"], object)[known["eval"]], spec)
    frames, labels = ({split: values[split][known[split]] for split in values} for values in (frames, labels))
    truth = labels["eval"]
    answers = boosted(frames, labels, features.categories, spec)
    boosting = min(answers, key=lambda kind: losses(truth, answers[kind], spec).mean())
    ours_lost, theirs_lost = losses(truth, ours, spec), losses(truth, answers[boosting], spec)

    root_of = np.sqrt if spec.kind == "number" else np.asarray
    percent = 100 * (root_of(ours_lost.mean()) / root_of(theirs_lost.mean()) - 1)
    draws = np.random.default_rng(0).integers(len(truth), size=(RESAMPLES, len(truth)))
    spread = np.std(100 * (root_of(ours_lost[draws].mean(1)) / root_of(theirs_lost[draws].mean(1)) - 1))
    row = {
        "table": name,
        "kind": table.kind,
        "package": table.package,
        "rows": f"{len(labels['train']):,} + {len(truth):,}",
        "metric": "RMSE" if spec.kind == "number" else "log loss",
        "network": f"{root_of(ours_lost.mean()):.4g}",
        "boosting": f"{root_of(theirs_lost.mean()):.4g}",
        "which": boosting,
        "difference": f"{percent:+.1f} % ± {spread:.1f}",
        "used to choose the defaults": "yes" if table.tuned else "no",
        "_percent": round(float(percent), 2),
    }
    if spec.kind == "binary":
        from sklearn.metrics import roc_auc_score

        both = [roc_auc_score(truth, values) for values in (ours, answers[boosting])]
        row |= {"AUC, network": f"{both[0]:.4f}", "AUC, boosting": f"{both[1]:.4f}"}
        row["_auc"] = round(float(both[1] - both[0]), 4)
    return row


def read_records(folder: Path) -> list[bytes]:
    import tensorflow as tf

    paths = [str(path) for path in sorted(folder.iterdir())]
    compression = "GZIP" if paths[0].endswith(".gz") else ""
    return [record.numpy() for record in tf.data.TFRecordDataset(paths, compression)]


def frame_of(records: Iterable[bytes], columns: list[str]) -> pd.DataFrame:
    """Return the single values of tf.Examples; None where there is none."""
    import tensorflow as tf

    rows = []
    for record in records:
        features = tf.train.Example.FromString(record).features.feature
        row = {}
        for name in columns:
            kind = features[name].WhichOneof("kind")
            values = getattr(features[name], kind).value if kind else ()
            value = values[0] if values else None
            row[name] = value.decode() if isinstance(value, bytes) else value
        rows.append(row)
    return pd.DataFrame(rows, columns=columns, dtype=object)  # an INT stays one, beside missing values, too


def labels_of(frame: pd.DataFrame, spec: LabelSpec) -> np.ndarray:
    """Return float [rows]: 0 or 1, the index of the class, or the number; NaN where there is no label."""
    column = frame.iloc[:, 0]
    if spec.kind == "number":
        return column.to_numpy(float)
    texts = column.map(lambda value: None if value is None else str(value))
    if spec.kind == "binary":
        return texts.map(lambda value: np.nan if value is None else float(value in spec.positive)).to_numpy(float)
    index = {name: number for number, name in enumerate(spec.classes)}
    last = float(len(index) - 1) if "(other)" in index else np.nan
    return texts.map(lambda value: np.nan if value is None else index.get(value, last)).to_numpy(float)


def network_answers(model: Path, records: np.ndarray, spec: LabelSpec) -> np.ndarray:
    """Return [rows] probabilities or numbers, or [rows, classes] probabilities."""
    import tensorflow as tf

    answers = tf.saved_model.load(str(model)).signatures["serving_default"](tf.constant(records.tolist()))
    output = answers[OUTPUTS[spec.kind]].numpy()
    return output if spec.kind == "classes" else output[:, 0]


def boosted(
    frames: dict[str, pd.DataFrame], labels: dict[str, np.ndarray], categories: Iterable[str], spec: LabelSpec
) -> dict[str, np.ndarray]:
    """Return the answers on the eval rows of HistGradientBoosting, as it comes and with early stopping."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    numbers = frames["train"].columns.difference(list(categories))
    frames = {split: frame.astype(dict.fromkeys(numbers, float)) for split, frame in frames.items()}
    for name in categories:
        known = frames["train"][name].value_counts().index[:CATEGORIES]
        for frame in frames.values():
            frame[name] = pd.Categorical(frame[name].where(frame[name].isin(known)), categories=known)
    truth = labels["train"]
    logs = spec.kind == "number" and spec.transform == "log1p"
    model = HistGradientBoostingRegressor if spec.kind == "number" else HistGradientBoostingClassifier
    answers = {}
    for kind, stops in (("default", "auto"), ("early stopping", True)):
        boosting = model(early_stopping=stops, categorical_features="from_dtype", random_state=0)
        boosting.fit(frames["train"], np.log1p(truth) if logs else truth)
        if spec.kind == "number":
            answer = boosting.predict(frames["eval"])
            answers[kind] = np.expm1(answer) if logs else answer
            continue
        probabilities = np.full((len(frames["eval"]), max(2, len(spec.classes))), SMALLEST)
        probabilities[:, boosting.classes_.astype(int)] = boosting.predict_proba(frames["eval"])
        answers[kind] = probabilities[:, 1] if spec.kind == "binary" else probabilities
    return answers


def losses(truth: np.ndarray, answers: np.ndarray, spec: LabelSpec) -> np.ndarray:
    """Return each row's log loss, or squared error of a number as it is trained on (log1p, if the config says so)."""
    if spec.kind == "number":
        logs = spec.transform == "log1p"
        return (np.log1p(truth) - np.log1p(np.maximum(answers, 0)) if logs else truth - answers) ** 2
    answers = np.clip(answers, SMALLEST, 1 - SMALLEST)
    if spec.kind == "binary":
        return -np.where(truth == 1, np.log(answers), np.log1p(-answers))
    return -np.log(answers[np.arange(len(truth)), truth.astype(int)])


if __name__ == "__main__":
    if sys.argv[1] == "--compare":  # in a process of its own: TensorFlow's memory is not the next table's
        print(json.dumps(compare(sys.argv[2])))
    else:
        main(run)
