"""The labels that a snapshot's manifest counts, of every kind."""

import json

import numpy as np
import pyarrow as pa
import pytest

from nightly.records.baseline import Baseline
from nightly.records.label_config import BinaryLabel, ClassesLabel, NumberLabel
from nightly.records.label_spec import OTHER
from nightly.records.snapshot import NUMBERS, SnapshotManifest
from nightly.snapshots import builder
from nightly.snapshots import labels as counting
from nightly.snapshots.labels import LabelCounter, quantiles

ROWS = "day,trips,fare,city\n" + "".join(
    f"2016-01-{1 + n % 28:02},{n},{'' if n % 10 == 0 else n / 4},{'AB'[n % 2]}\n" for n in range(1000)
)


def test_numbers_have_a_hundred_and_one_quantiles_of_all_shards(bench, monkeypatch):
    monkeypatch.setattr(builder, "SHARD_ROWS", 300)
    bench.body("rows.csv", ROWS)
    manifest = bench.store.get(bench.ingest(label=NumberLabel(column="fare")).snapshot_id)
    assert len(manifest.files) == 4
    assert (manifest.label_column, manifest.label_kind) == ("fare", "number")
    assert manifest.label_counts == {NUMBERS: 900, "": 100}
    known = sorted(n / 4 for n in range(1000) if n % 10)
    assert manifest.label_quantiles == [known[0], *(known[9 * part - 1] for part in range(1, 101))]


@pytest.mark.parametrize("label", [BinaryLabel(column="trips", positive=["3"]), ClassesLabel(column="trips")])
def test_whole_numbers_as_labels_are_counted_by_their_text(bench, label):
    bench.body("rows.csv", "day,trips\n2016-01-01,3\n2016-01-02,3.0\n2016-01-03,4\n2016-01-04,\n")
    manifest = bench.store.get(bench.ingest(label=label).snapshot_id)
    assert manifest.label_counts == {"": 1, "3": 2, "4": 1}
    assert manifest.label_quantiles == []


def test_a_snapshot_that_counted_another_label_says_so(bench):
    bench.body("rows.csv", ROWS)
    first = bench.ingest(label=ClassesLabel(column="city"))
    again = bench.ingest(label=NumberLabel(column="fare"))
    assert first.snapshot_id == again.snapshot_id and not again.created, "a snapshot never changes"
    manifest = bench.store.get(again.snapshot_id)
    assert manifest.summary(NumberLabel(column="fare")) is None
    assert manifest.summary(NumberLabel(column="city")) is None
    assert manifest.summary(ClassesLabel(column="city")).counts == {"A": 500, "B": 500}
    assert manifest.summary(BinaryLabel(column="city", positive=["A"])).share("positive") == 0.5
    assert manifest.summary(ClassesLabel(column="city"), {"A"}).rows == 500


def test_a_manifest_and_a_baseline_of_an_older_version_count_the_labels_of_the_config(bench):
    bench.body("rows.csv", ROWS)
    ref = bench.ingest(label=BinaryLabel(column="city", positive=["A"]))
    path = bench.store.path(ref.snapshot_id) / "manifest.json"
    manifest = json.loads(path.read_text())
    old = {key: manifest[key] for key in manifest.keys() - {"label_column", "label_kind", "label_quantiles"}}
    label = BinaryLabel(column="city", positive=["A"])
    assert SnapshotManifest.parse(old, where="test").summary(label).share("positive") == 0.5
    times = dict.fromkeys(("as_of", "accepted_at"), "2016-01-01T00:00:00Z")
    bare = {"model": "m", "run_id": "r", "snapshot_id": "s", **times}
    baseline = Baseline.parse(bare | {"label_counts": {"A": 1, "B": 3}}, where="test")
    assert baseline.summary(label).share("positive") == 0.25
    assert Baseline.parse(bare, where="test").summary(label).rows == 0


def test_of_a_column_of_ids_the_most_frequent_values_are_kept(monkeypatch):
    monkeypatch.setattr(counting, "MAX_CLASSES", 10)
    counter = LabelCounter("id", "classes")
    for shard in range(5):
        ids = [f"{shard} {n}" for n in range(50)]
        counter.add(pa.chunked_array([pa.array([*ids, *["often"] * 9, None])]))
    assert len(counter.counts) <= 12
    assert counter.counts["often"] == 45 and counter.counts[""] == 5
    assert sum(counter.counts.values()) == 5 * 60 and counter.counts[OTHER] > 200


def test_numbers_that_are_not_finite_have_no_quantile():
    counter = LabelCounter("y", "number")
    counter.add(pa.chunked_array([pa.array([1.0, np.nan, np.inf, None, 2.0])]))
    assert counter.counts == {"": 1, NUMBERS: 4}
    assert counter.quantiles[0] == 1.0 and counter.quantiles[-1] == 2.0
    assert quantiles(np.array([]), 100) == []
