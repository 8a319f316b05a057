"""A look at versions that predict classes or numbers: what clients log, labels that come later, and the decision."""

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightly.canary import compare
from nightly.canary.labels import FeedbackError, later_labels
from nightly.canary.losses import Loss, loss_between
from nightly.canary.predictions import Version, logged
from nightly.canary.report import report
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.canary import Look
from nightly.records.config import ModelConfig
from nightly.records.label_spec import LABEL_SPEC, OTHER, LabelSpec
from nightly.records.night import utc_now
from nightly.records.release import ReleaseRecord
from nightly.snapshots.builder import SnapshotBuilder
from nightly.snapshots.store import SnapshotStore
from nightly_client import PredictionLog
from tests.support.records import release_record

STABLE, CANARY = 1_700_000_000, 1_700_000_100
KEY = "a key of sixteen bytes or more"
SINCE = utc_now() - dt.timedelta(days=2)
CLASSES = LabelSpec(kind="classes", column="label", output="probabilities", classes=["Cash", "Card", OTHER])
NUMBER = LabelSpec(
    kind="number", column="label", output="prediction", transform="log1p", quantiles=list(np.linspace(0, 100, 101))
)
BINARY = LabelSpec(kind="binary", column="label", output="probability", positive=["yes"])
THIRDS = [0.5, 0.25, 0.25]


def config(**canary) -> ModelConfig:
    taxi = load_config("taxi").model_dump()
    taxi["data"]["id_columns"] = ["trip"]
    taxi["release"]["canary"] = {"margin": 0.02, **canary}
    return ModelConfig.parse(taxi, where="test")


def record(paths: Paths, stable: LabelSpec | None, canary: LabelSpec | None) -> ReleaseRecord:
    """The release of a canary beside production, each with its label.json."""
    folder = paths.serving / "taxi"
    for version, spec in ((STABLE, stable), (CANARY, canary)):
        if spec:
            spec.save(folder / str(version) / LABEL_SPEC)
    how = {"version": CANARY, "state": "canary", "path": str(folder / str(CANARY)), "previous_version": STABLE}
    return release_record(**how, released_at=SINCE, canary_share=0.3, canary_since=SINCE)


def log(paths: Paths, rows: list[tuple], file_format: str = "jsonl") -> None:
    """Log predictions as a client does: (id, version, answer), each of a caller of its own."""
    with PredictionLog(paths.predictions / "taxi", format=file_format, key=KEY) as file:
        for id_, version, answer in rows:
            label = "stable" if version == STABLE else "canary"
            file.write([{"x": 1.0}], [answer], model="taxi", version=version, label=label, caller=id_, ids=[id_])


def feedback(paths: Paths, name: str, text: str) -> Path:
    path = paths.feedback / "taxi" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


ANSWERS = {
    "binary": (
        BINARY,
        [0.25],
        {
            "a single output": [0.25],
            "a number": 0.25,
            "several outputs": {"probability": [0.25], "other": [7.0]},
            "classify": [("0", 0.75), ("1", 0.25)],
        },
        {
            "text": {"probability": ["high"]},
            "two numbers": [0.25, 0.75],
            "no output": {"score": [0.25], "other": [1.0]},
        },
    ),
    "classes": (
        CLASSES,
        THIRDS,
        {
            "a single output": THIRDS,
            "several outputs": {"probabilities": THIRDS, "class": ["Cash"]},
            "classify": list(zip(CLASSES.classes, THIRDS, strict=True)),
            "classify, best first": [("Card", 0.25), (OTHER, 0.25), ("Cash", 0.5)],
            "the signature `classify` by predict": {"classes": CLASSES.classes, "scores": THIRDS},
        },
        {
            "the class alone": {"class": ["Cash"], "other": [1.0]},
            "another number of classes": [0.5, 0.5],
            "scores that are text": {"classes": CLASSES.classes, "scores": ["a", "b", "c"]},
            "classify without a class": [("Cash", 0.5), ("Card", 0.5)],
            "no probabilities": [0.5, 0.9, 0.9],
        },
    ),
    "number": (
        NUMBER,
        [12.5],
        {
            "a single output": [12.5],
            "regress": 12.5,
            "several outputs": {"prediction": [12.5], "low": [10.0]},
            "a whole number": {"prediction": [12], "low": [10.0]},
        },
        {"infinite": [float("inf")], "not a number": float("nan"), "two": [1.0, 2.0], "classify": [("1", 1.0)]},
    ),
}


@pytest.mark.parametrize("file_format", ["tfrecord", "jsonl", "parquet"])
@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_are_read_in_each_form_that_clients_log_and_the_others_are_counted(paths, kind, file_format):
    spec, expected, usable, unusable = ANSWERS[kind]
    names = {**usable, **unusable}
    log(paths, [(name, CANARY, answer) for name, answer in names.items()], file_format)
    versions = (Version(STABLE, spec), Version(CANARY, spec))
    predictions = logged(paths.predictions / "taxi", SINCE, *versions, loss_between(spec, spec))
    assert predictions.rows["id"].tolist() == list(usable)
    whole = [[12.0] if "whole" in name else expected for name in usable]
    assert predictions.answers == pytest.approx(np.array(whole))
    assert predictions.left_out == {f"no {spec.output}": len(unusable)}


def snapshot(paths: Paths, kind: str, labels: list) -> None:
    """A snapshot of trips 0, 1, … with these labels."""
    moment = dt.datetime(2016, 1, 1, tzinfo=dt.UTC)
    columns = {"trip": "string", "time": "timestamp", "label": kind}
    known = {"window_start": moment, "window_end": utc_now(), "rejected": [], "source": [], "source_sha256": []}
    with SnapshotBuilder(
        SnapshotStore(paths.snapshots, "taxi"), columns, time_column="time", id_columns=["trip"]
    ) as builder:
        values = [[str(number) for number in range(len(labels))], [moment] * len(labels), labels]
        arrays = [pa.array(v, field.type) for v, field in zip(values, builder.schema, strict=True)]
        builder.add(pa.record_batch(arrays, schema=builder.schema))
        builder.finish(label="label", code_version="c", **known)


def labels_of(paths: Paths, spec: LabelSpec, *ids: str) -> list[float]:
    loss: Loss = loss_between(spec, spec)
    texts, _ = later_labels(paths, config(), spec, SINCE, ids)
    return loss.labels(texts).reindex(ids).tolist()


@pytest.mark.parametrize(
    ("spec", "kind", "labels", "expected"),
    [
        (CLASSES, "string", ["Card", "Cash", None, "Cheque"], [1, 0, None, 2]),
        (CLASSES.model_copy(update={"classes": ["1", "3"]}), "int64", [3, 1, None, 4], [1, 0, None, None]),
        (NUMBER, "float", [12.5, 0.0, None, 1e-7], [12.5, 0, None, 1e-7]),
        (NUMBER, "int64", [12, 0, None, -1], [12, 0, None, -1]),
    ],
)
def test_labels_of_snapshots_and_of_feedback_files_are_read_alike(paths, tmp_path, spec, kind, labels, expected):
    expected = pytest.approx([np.nan if value is None else value for value in expected], nan_ok=True)
    ids = ("0", "1", "2", "3")
    snapshot(paths, kind, labels)
    assert labels_of(paths, spec, *ids) == expected
    other = Paths.from_environment({"NIGHTLY_VAR": str(tmp_path / "other")})
    lines = [f"{id_},{'' if label is None else label}" for id_, label in zip(ids, labels, strict=True)]
    feedback(other, "labels.csv", "\n".join(["id,label", *lines]))
    assert labels_of(other, spec, *ids) == expected
    if kind != "string":  # pandas turns whole numbers with a blank into floats, and the blank into NaN
        path = feedback(other, "labels.csv", "id,label\n")
        floats = pa.array([np.nan if label is None else float(label) for label in labels])
        pq.write_table(pa.table([list(ids), floats], ["id", "label"]), path.with_suffix(".parquet"))
        assert labels_of(other, spec, *ids) == expected


def test_a_class_may_be_named_na_and_a_number_that_is_na_is_blank(paths):
    feedback(paths, "labels.csv", 'id,label\n0,NA\n1,null\n2,\n3,""\n')
    spec = CLASSES.model_copy(update={"classes": ["null", "NA"]})
    assert labels_of(paths, spec, "0", "1", "2", "3") == pytest.approx([1, 0, np.nan, np.nan], nan_ok=True)
    assert np.isnan(labels_of(paths, NUMBER, "0", "1", "2", "3")).all()


@pytest.mark.parametrize("text", ["twelve", "12,5", "$12", "inf"])
def test_a_label_that_is_no_number_is_refused_with_file_and_row(paths, text):
    path = feedback(paths, "fares.csv", f'id,label\na,1\nb,\nc,"{text}"\n')
    with pytest.raises(FeedbackError) as caught:
        labels_of(paths, NUMBER, "somebody else's")
    where = f"{path}, row 3: the label {text!r} of the id 'c' is not a number. Mend it, or move the file out of "
    assert str(caught.value) == f"{where}{path.parent}"


def compared(paths: Paths, stable: LabelSpec | None, canary: LabelSpec | None, days: float = 2, **settings) -> Look:
    now = SINCE + dt.timedelta(days=days)
    return compare.look(paths, config(**settings), record(paths, stable, canary), now)


def trips(paths: Paths, answer, label, number: int = 1500) -> None:
    """Predictions of `answer(random, whether it is the canary's, truth)` and their labels."""
    random = np.random.default_rng(0)
    rows, lines = [], ["id,label"]
    for trip in range(number):
        is_canary = trip < number * 0.3
        truth = random.random()
        rows.append((str(trip), CANARY if is_canary else STABLE, answer(random, is_canary, truth)))
        lines.append(f"{trip},{label(random, truth)}")
    log(paths, rows)
    feedback(paths, "labels.csv", "\n".join(lines))


@pytest.mark.parametrize(("noise", "decision", "why"), [(30, "stop", "surely worse"), (5, "promote", "surely better")])
def test_a_number_is_compared_by_its_rank_error(paths, noise, decision, why):
    """Production is off by 15 percent of the labels' range."""
    trips(
        paths,
        lambda random, is_canary, truth: [100 * truth + random.choice([-1, 1]) * (noise if is_canary else 15)],
        lambda random, truth: 100 * truth,
    )
    look = compared(paths, NUMBER, NUMBER, min_labelled=100)
    assert (look.decision, look.loss, look.left_out) == (decision, "rank error", {}) and why in look.reason
    assert look.stable.loss == pytest.approx(0.14, abs=0.01) and (look.difference > 0) == (decision == "stop")
    text = report("taxi", None, look)
    assert "\nmean rank error " in text
    assert not [word for word in ("probability", "probabilities", "Brier") if word in text]


@pytest.mark.parametrize(("sure", "decision"), [(0.4, "stop"), (0.95, "promote")])
def test_classes_are_compared_by_half_the_brier_score_and_labels_outside_them_are_counted(paths, sure, decision):
    """Production is right with a probability of 0.7. The two versions know the classes in another order."""
    stable = CLASSES.model_copy(update={"classes": ["Cash", "Card"]})
    canary = CLASSES.model_copy(update={"classes": ["Card", "Cash"]})

    def answer(random: np.random.Generator, is_canary: bool, truth: float) -> dict:
        p = sure if is_canary else 0.7
        cash = p if truth < 0.6 else 1 - p
        probabilities = [1 - cash, cash] if is_canary else [cash, 1 - cash]
        return {"probabilities": probabilities, "class": ["Cash"]}

    trips(paths, answer, lambda random, truth: "Cash" if truth < 0.6 else "Card" if truth < 0.9 else "Cheque")
    look = compared(paths, stable, canary, min_labelled=100)
    assert (look.decision, look.loss) == (decision, "Brier score / 2"), look.reason
    assert look.stable.loss == pytest.approx(0.3**2) and look.canary.loss == pytest.approx((1 - sure) ** 2)
    assert 100 < look.left_out["label outside the classes"] < 200
    assert look.canary.labelled + look.stable.labelled == 1500 - look.left_out["label outside the classes"]
    assert "\nmean Brier score / 2 " in report("taxi", None, look)


def test_classes_that_one_version_does_not_know_are_named_in_the_look(paths):
    canary = CLASSES.model_copy(update={"classes": ["Cash", "Card", "Cheque", OTHER]})
    log(paths, [("a", CANARY, {"probabilities": [0.1, 0.2, 0.3, 0.4], "class": ["x"]}), ("b", STABLE, THIRDS)])
    feedback(paths, "labels.csv", "id,label\na,Cheque\nb,Cheque\n")
    look = compared(paths, CLASSES, canary)
    assert look.canary.loss == pytest.approx((0.1**2 + 0.2**2 + 0.3**2) / 2)
    assert look.stable.loss == pytest.approx((0.5**2 + 0.25**2 + 0.75**2) / 2)
    assert look.warnings == [
        "1 of 3 classes are compared together, as (other), because one version does not know them: 'Cheque'"
    ]


def test_a_canary_of_another_kind_waits_for_a_person_and_is_never_promoted_by_itself(paths):
    """Production is of an older release, without label.json, so it is binary as the config says."""
    log(paths, [("a", CANARY, [12.5]), ("b", STABLE, [0.25])])
    assert compared(paths, None, None).loss == "Brier score"
    look = compared(paths, None, NUMBER)
    assert look.decision == "wait" and look.reason == (
        "production predicts a label of kind 'binary', and the canary one of kind 'number', so their answers cannot be "
        "compared: promote or stop it by hand; day 2.0 of 14"
    )
    assert "mean loss" in report("taxi", None, look)
    assert compared(paths, None, NUMBER, days=15, undecided="promote").decision == "stop"


def test_a_look_of_an_older_version_is_read_as_one_of_a_binary_label(paths):
    look = compared(paths, None, None)
    assert Look.parse(look.model_dump(mode="json", exclude={"loss"}), where="test").loss == "Brier score"
