"""What a look finds in real logs and labels, and what follows from its figures."""

import datetime as dt
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightly.canary import compare
from nightly.canary.labels import FeedbackError, later_labels
from nightly.canary.losses import BinaryLoss
from nightly.canary.predictions import Version, logged
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.base import ContractError
from nightly.records.canary import Side
from nightly.records.config import CanaryConfig, ModelConfig
from nightly.records.golden import GOLDEN, Golden
from nightly.records.label_spec import LabelSpec
from nightly.records.night import utc_now
from nightly.records.release import ReleaseRecord
from nightly.snapshots.builder import SnapshotBuilder
from nightly.snapshots.store import SnapshotStore
from nightly_client import PredictionLog
from tests.support.records import release_record

STABLE, CANARY = 1_700_000_000, 1_700_000_100
KEY = "a key of sixteen bytes or more"
BINARY = LabelSpec(kind="binary", column="big_tipper", output="probability", positive=["1"])
LOSS = BinaryLoss(["1"])
VERSIONS = (Version(STABLE, BINARY), Version(CANARY, BINARY))
SINCE = utc_now() - dt.timedelta(days=2)


def config(**canary) -> ModelConfig:
    """taxi, with an id of two columns."""
    taxi = load_config("taxi").model_dump()
    taxi["data"]["id_columns"] = ["vehicle", "trip"]
    taxi["release"]["canary"] = {"labels": ["snapshots", "feedback"], **canary}
    return ModelConfig.parse(taxi, where="test")


def record(paths: Paths, share: float = 0.3, since: dt.datetime = SINCE) -> ReleaseRecord:
    folder = paths.serving / "taxi" / str(CANARY)
    Golden(model="taxi", examples=[]).save(folder / GOLDEN)
    return release_record(
        version=CANARY,
        state="canary",
        path=str(folder),
        previous_version=STABLE,
        released_at=since,
        canary_share=share,
        canary_since=since,
    )


def log(paths: Paths, rows: list[tuple], key: str | None = KEY, file_format: str = "jsonl") -> None:
    """Log predictions as a client does: (id, version, label, caller, answer)."""
    with PredictionLog(paths.predictions / "taxi", format=file_format, key=key) as file:
        for id_, version, label, caller, answer in rows:
            file.write([{"x": 1.0}], [answer], model="taxi", version=version, label=label, caller=caller, ids=[id_])


def snapshot(paths: Paths, rows: list[tuple]) -> None:
    """A snapshot of (vehicle, trip, label)."""
    moment = dt.datetime(2016, 1, 1, tzinfo=dt.UTC)
    columns = {"vehicle": "int64", "trip": "string", "time": "timestamp", "big_tipper": "int64"}
    known = {"window_start": moment, "window_end": utc_now(), "rejected": [], "source": [], "source_sha256": []}
    store = SnapshotStore(paths.snapshots, "taxi")
    with SnapshotBuilder(store, columns, time_column="time", id_columns=["vehicle", "trip"]) as builder:
        vehicles, trips, labels = zip(*rows, strict=True)
        values = [vehicles, trips, [moment] * len(rows), labels]
        arrays = [pa.array(v, field.type) for v, field in zip(values, builder.schema, strict=True)]
        builder.add(pa.record_batch(arrays, schema=builder.schema))
        builder.finish(label="big_tipper", code_version="c", **known)


def test_only_what_chance_gave_to_a_version_is_compared_and_the_rest_is_counted(paths):
    log(
        paths,
        [
            ("a", STABLE, "stable", "u1", [0.2]),
            ("b", CANARY, "canary", "u2", {"probability": 0.3, "other": 1.0}),
            ("c", CANARY, "canary", "u3", [("0", 0.4), ("1", 0.6)]),
            ("d", CANARY, None, None, [0.5]),  # neither version nor label: the newest answers, and that is the canary
            ("e", STABLE, None, None, [0.5]),  # by its version
            ("f", 1_600_000_000, "stable", "u1", [0.5]),  # of before
            ("g", STABLE, "stable", "u1", [0.5]),
            ("g", CANARY, "canary", "u2", [0.5]),
            ("h", STABLE, "stable", "u4", [0.5]),
            ("i", CANARY, "canary", "u4", [0.5]),  # u4 was on both sides
            ("a", STABLE, "stable", "u1", [0.2]),  # asked again
            ("j", STABLE, "stable", "u1", [float("nan")]),
        ],
    )
    predictions = logged(paths.predictions / "taxi", SINCE, *VERSIONS, LOSS)
    rows, left_out = predictions.rows, predictions.left_out

    assert dict(zip(rows["id"], zip(rows["canary"], predictions.answers[:, 0], strict=True), strict=True)) == {
        "a": (False, 0.2),
        "b": (True, 0.3),
        "c": (True, 0.6),
    }
    assert rows["caller"].nunique() == 3 and "u1" not in set(rows["caller"]), "callers are hashes"
    assert left_out == {
        "not asked by the label": 2,
        "no probability": 1,
        "id answered by both versions": 2,
        "id answered again": 1,
        "caller answered by both versions": 2,
    }


def test_without_any_log_there_is_nothing_to_compare_and_that_is_no_error(paths):
    predictions = logged(paths.predictions / "taxi", SINCE, *VERSIONS, LOSS)
    assert len(predictions.rows) == 0 and predictions.left_out == {}
    found = compare.look(paths, config(), record(paths), utc_now())
    assert found.decision == "wait" and "0 predictions of the canary have a label, and 500 are needed" in found.reason


@pytest.mark.parametrize("file_format", ["tfrecord", "jsonl", "parquet"])
def test_every_format_of_the_log_gives_the_same_predictions(paths, file_format):
    log(paths, [("a", STABLE, "stable", "u1", [0.25]), ("b", CANARY, "canary", "u2", [0.75])], file_format=file_format)
    predictions = logged(paths.predictions / "taxi", SINCE, *VERSIONS, LOSS)
    assert predictions.rows[["id", "canary"]].to_numpy().tolist() == [["a", False], ["b", True]]
    assert predictions.answers.tolist() == [[0.25], [0.75]]


def feedback(paths: Paths, name: str, text: str, hours_ago: float = 0.0) -> Path:
    path = paths.feedback / "taxi" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".parquet"):
        rows = [line.split(",") for line in text.split()]
        pq.write_table(pa.table([[r[0] for r in rows], [int(r[1]) for r in rows]], ["id", "label"]), path)
    else:
        path.write_text(text)
    written = utc_now().timestamp() - hours_ago * 3600
    os.utime(path, (written, written))
    return path


def test_labels_are_joined_by_id_from_snapshots_and_files_and_the_latest_counts(paths):
    snapshot(paths, [(7, "x", 1), (7, "y", 0), (8, "x", None), (9, "z", 1)])
    feedback(paths, "early.csv", "label,id,by\n0,7:x,ada\n1,8:x,ada\n1,7:x,ada\n", hours_ago=5)
    wanted = pd.Index(["7:x", "7:y", "8:x", "unknown"])

    labels, counts = later_labels(paths, config(), BINARY, SINCE, wanted)
    assert LOSS.labels(labels).to_dict() == {"7:x": 1.0, "7:y": 0.0, "8:x": 1.0}
    assert counts == {"snapshots": 2, "feedback": 2}

    feedback(paths, "revised.parquet", "7:y,1 7:x,0", hours_ago=-1)
    feedback(paths, ".half.csv", "no labels yet")
    labels, _ = later_labels(paths, config(), BINARY, SINCE, wanted)
    assert LOSS.labels(labels).to_dict() == {"7:x": 0.0, "7:y": 1.0, "8:x": 1.0}
    only = config(labels=["snapshots"])
    assert later_labels(paths, only, BINARY, SINCE, wanted)[1] == {"snapshots": 2}
    assert len(later_labels(paths, only, BINARY, utc_now(), wanted)[0]) == 0, "made before the canary"


def test_a_file_of_labels_that_cannot_be_read_is_named(paths):
    path = feedback(paths, "odd.csv", "key,value\n1,2\n")
    with pytest.raises(FeedbackError, match=r"odd\.csv holds no labels .* columns id and label"):
        later_labels(paths, config(), BINARY, SINCE, pd.Index(["a"]))
    path.unlink()


def test_a_label_is_read_as_in_training():
    assert LOSS.labels(pd.Series(["1", "1.0", "0", "2"])).tolist() == [1, 1, 0, 0]
    assert BinaryLoss(["Yes"]).labels(pd.Series(["Yes", "yes", "No"])).tolist() == [1, 0, 0]


def traffic(
    paths: Paths, *, worse: float, callers: int = 400, each: int = 6, canary: float = 0.3, key: str | None = KEY
) -> None:
    """Predictions whose Brier score is `worse` by that for the canary, and their labels."""
    random = np.random.default_rng(0)
    rows, labels = [], ["id,label"]
    for caller in range(callers):
        is_canary = caller < callers * canary
        for number in range(each):
            truth = random.uniform(0.1, 0.6)
            # An error e in the probability costs e squared.
            said = truth + (np.sqrt(abs(worse)) if is_canary == (worse > 0) else 0.0)
            name = f"{caller}:{number}"
            version, label = (CANARY, "canary") if is_canary else (STABLE, "stable")
            rows.append((name, version, label, f"user-{caller}", [said]))
            labels.append(f"{name},{int(random.random() < truth)}")
    log(paths, rows, key)
    feedback(paths, "labels.csv", "\n".join(labels))


def test_a_canary_that_is_worse_is_to_be_stopped_and_one_that_is_better_to_be_promoted(paths, tmp_path):
    traffic(paths, worse=0.09)
    found = compare.look(paths, config(margin=0.02), record(paths), utc_now(), "run-1")
    assert (found.decision, found.run_id) == ("stop", "run-1") and found.low > 0 and "surely worse" in found.reason
    assert (found.canary.logged, found.canary.labelled, found.canary.callers) == (720, 720, 120)
    assert (found.stable.logged, found.stable.callers) == (1680, 280) and found.labels["feedback"] == 2400
    assert found.difference == pytest.approx(0.09, abs=0.03) and found.warnings == []

    other = Paths.from_environment({"NIGHTLY_VAR": str(tmp_path / "other")})
    traffic(other, worse=-0.09)
    found = compare.look(other, config(margin=0.02), record(other), utc_now())
    assert found.decision == "promote" and found.high < 0 and "surely better" in found.reason


def test_shares_other_than_configured_hold_the_decision_however_clear_the_figures_are(paths):
    traffic(paths, worse=0.09, canary=0.5)
    found = compare.look(paths, config(margin=0.02), record(paths, share=0.3), utc_now())
    assert found.low > 0 and found.decision == "wait"
    assert found.warnings and "50.0% of 400 callers got the canary, and 30.0% should have" in found.warnings[0]
    late = compare.look(paths, config(undecided="promote"), record(paths), SINCE + dt.timedelta(days=15))
    assert late.decision == "stop", "what cannot be compared is never promoted by itself"


def test_without_callers_in_the_log_it_is_said_what_is_not_known(paths):
    traffic(paths, worse=0.09, canary=0.5, key=None)
    found = compare.look(paths, config(margin=0.02), record(paths), utc_now())
    assert found.decision == "stop" and "2,400 predictions were logged without a caller" in found.warnings[0]


def side(version: int, labelled: int = 1000, callers: int = 500) -> Side:
    return Side(version=version, logged=labelled, labelled=labelled, callers=callers, loss=0.1)


@pytest.mark.parametrize(
    ("low", "high", "days", "decision", "why"),
    [
        (-0.05, -0.01, 1, "promote", "surely better"),
        (-0.01, 0.009, 1, "promote", "surely not 0.01 worse"),
        (0.001, 0.009, 1, "promote", "surely not 0.01 worse"),  # worse, and by less than matters
        (0.001, 0.05, 1, "stop", "surely worse"),
        (-0.01, 0.02, 1, "wait", "not clear yet"),
        (-0.01, 0.02, 14, "stop", "after 14.0 of 14 days still undecided"),
    ],
)
def test_the_decision_follows_from_the_interval(low, high, days, decision, why):
    found, reason = compare.decided(CanaryConfig(), side(1), side(2), (low + high) / 2, low, high, "", days)
    assert found == decision and why in reason


@pytest.mark.parametrize(
    ("canary", "why"),
    [
        (side(2, labelled=499), "499 predictions of the canary have a label, and 500 are needed"),
        (side(2, callers=49), "49 callers asked the canary, and 50 are needed"),
    ],
)
def test_too_few_decide_nothing_before_the_time_is_up(canary, why):
    found, reason = compare.decided(CanaryConfig(), side(1), canary, -0.5, -0.6, -0.4, "", 2)
    assert found == "wait" and why in reason
    assert compare.decided(CanaryConfig(undecided="promote"), side(1), canary, -0.5, -0.6, -0.4, "", 20)[0] == "promote"


def test_a_config_whose_labels_cannot_be_joined_is_refused_and_says_what_to_do():
    taxi = load_config("taxi").model_dump()
    taxi["release"]["canary"] = {}
    with pytest.raises(ContractError, match=r'set labels = \["feedback"\]'):
        ModelConfig.parse(taxi, where="test")
    taxi["release"]["canary"] = {"labels": ["feedback"]}
    assert ModelConfig.parse(taxi, where="test").release.canary.share == 0.1
