"""Logged requests with images, lists and vectors are measured as the training rows are, whatever the log's format."""

import datetime as dt

import pyarrow as pa
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.models import load_config
from nightly.snapshots.builder import SnapshotBuilder
from nightly.snapshots.store import SnapshotStore
from nightly.statistics import serving
from nightly.statistics.comparators import distances
from nightly.statistics.serving import compare
from nightly.training.raw_features import MISSING_INT
from nightly_client import PredictionLog
from tests.support.digits import SCHEMA, digits
from tests.support.nights import a_night
from tests.support.statistics import assert_same, by_name

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)  # what is logged now is not of another time
COLUMNS = {"photo": "binary", "rows": "list<float>", "bright": "list<int64>", "strokes": "list<string>"}
CURATED = text_format.Parse(SCHEMA.replace("drift_comparator", "skew_comparator"), schema_pb2.Schema())
for feature in [feature for feature in CURATED.feature if feature.name in ("id", "story")]:
    CURATED.feature.remove(feature)


@pytest.fixture
def snapshot(tmp_path):
    """The digits as rows of a night of taxi, whose label they borrow."""
    time, label = "trip_start_timestamp", "big_tipper"
    columns = {time: "timestamp", label: "int64", **COLUMNS}
    with SnapshotBuilder(
        SnapshotStore(tmp_path / "snapshots", "taxi"), columns, time_column=time, id_columns=[]
    ) as builder:
        rows = [{time: NOW - dt.timedelta(days=1), label: row["even"], **row} for row in digits()]
        builder.add(pa.RecordBatch.from_pylist(rows, builder.schema))
        manifest, _ = builder.finish(
            label=label,
            window_start=NOW,
            window_end=NOW,
            source=[],
            source_sha256=[],
            code_version="tests",
        )
    return builder.store.path(manifest.snapshot_id)


def compared(snapshot, folder, monkeypatch, log_format, change=lambda row: row):
    """Log the digits as requests, with lists filled up to the same length, and compare them with the rows."""
    requests = []
    for row in digits():
        request = {name: row[name] for name in COLUMNS}
        for name, missing in (("bright", MISSING_INT), ("strokes", "")):
            values = request[name] or []
            request[name] = [*values, *[missing] * (20 - len(values))]
        requests.append(change(request))
    monkeypatch.setattr("time.time_ns", lambda: int((NOW - dt.timedelta(days=2)).timestamp() * 1e9))
    with PredictionLog(folder / "log", format=log_format) as log:
        log.write(requests, [0.5] * len(requests), model="taxi", version=1)
    monkeypatch.undo()
    about, served, trained = compare(a_night(model="taxi", as_of=NOW), CURATED, folder / "log", snapshot)
    assert not about.missing
    assert not about.unreadable
    return served, trained


@pytest.mark.parametrize("log_format", ["tfrecord", "jsonl", "parquet"])
def test_requests_like_the_rows_have_the_same_statistics(snapshot, tmp_path, monkeypatch, log_format):
    served, trained = compared(snapshot, tmp_path, monkeypatch, log_format)
    ours, theirs = by_name(served)["photo"], by_name(trained)["photo"]
    assert (ours.bytes_stats, list(ours.custom_stats)) == (theirs.bytes_stats, list(theirs.custom_stats))
    for side in (served, trained):
        kept = [
            feature for feature in side.datasets[0].features if feature.path.step[0] in ("rows", "bright", "strokes")
        ]
        del side.datasets[0].features[:]
        side.datasets[0].features.extend(kept)
    assert_same(served, trained, quantiles=False)


def test_images_that_a_client_sends_in_another_size_are_skewed(snapshot, tmp_path, monkeypatch):
    larger = lambda request: request | {"photo": request["photo"] + bytes(1000)}  # noqa: E731
    served, trained = compared(snapshot, tmp_path, monkeypatch, "jsonl", larger)
    (info,) = distances(trained, CURATED, beside=served).drift_skew_info
    assert info.path.step == ["photo"]
    assert info.skew_measurements[0].value == 1


@pytest.mark.parametrize(("time_column", "rows"), [("trip_start_timestamp", 0), ("", len(digits()))])
def test_without_a_time_column_requests_are_compared_with_all_rows(snapshot, tmp_path, monkeypatch, time_column, rows):
    config = load_config("taxi")
    data = config.data.model_copy(update={"time_column": time_column})
    monkeypatch.setattr(serving, "config_of", lambda night: config.model_copy(update={"data": data}))
    with PredictionLog(tmp_path / "log", format="jsonl") as log:  # today; all rows are of yesterday
        log.write([{"photo": digits()[0]["photo"]}], [0.5], model="taxi", version=1)
    tomorrow = NOW + dt.timedelta(days=1)
    about, _, trained = compare(a_night(model="taxi", as_of=tomorrow), CURATED, tmp_path / "log", snapshot)
    assert trained.datasets[0].num_examples == rows
    assert ("of the same days" in about.rows) is bool(time_column)
