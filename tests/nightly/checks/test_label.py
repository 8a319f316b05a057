"""The labels of a feature's values: counted as by hand, and on real trips."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nightly.checks.evidence import VALUES, SnapshotRows
from tests.support.judged_nights import judge_night


def test_labels_are_counted_of_every_value_that_can_be_judged_and_of_no_rare_one(tmp_path):
    evidence = judge_night("taxi", "2014-02-01", tmp_path).evidence
    label, enough = evidence.config.data.label, evidence.gate.min_rows_for_value
    frequent = {
        name: [bucket.label for bucket in stats.string_stats.rank_histogram.buckets[:VALUES]]
        for name, stats in evidence.train.features.items()
        if stats.HasField("string_stats")
    }
    every = evidence.rows.label_by_value(frequent, label.column, label.positive)
    counted = [(feature, value, rows) for feature, values in every.items() for value, (rows, _) in values.items()]
    judged = [(feature, value) for feature, value, rows in counted if rows >= enough]
    rare = [(feature, value) for feature, value, rows in counted if rows < enough / 4]
    assert judged and rare
    for feature, value in judged:
        assert evidence.label_by_value[feature][value] == every[feature][value]
    assert not [value for feature, value in rare if value in evidence.label_by_value.get(feature, {})]


def test_labels_are_counted_as_row_by_row(tmp_path):
    """Values and labels that are missing, texts and numbers, shards of several row groups with other values in each."""
    random = np.random.default_rng(0)
    columns = {
        "text": [None, "", "a", "b", "großes C", *(f"rare {n}" for n in range(500))],
        "number": [None, 0, 1, 2],
        "raw": [None, b"x", b"y"],
        "label": [None, "Yes", "No", "yes"],
    }
    types = {"text": pa.string(), "number": pa.int64(), "raw": pa.binary(), "label": pa.string()}
    rows: list[dict] = []
    for shard in range(2):
        drawn = {name: [each[n] for n in random.integers(0, len(each), 1000)] for name, each in columns.items()}
        drawn["text"][: 300 * shard] = ["only in one"] * 300 * shard
        table = pa.table({name: pa.array(each, types[name]) for name, each in drawn.items()})
        pq.write_table(table, tmp_path / f"rows-{shard}.parquet", row_group_size=300)
        rows += table.to_pylist()
    wanted = {
        "text": ["b", "a", "", "großes C", "only in one", "in none"],
        "number": ["2", "0"],
        "raw": ["y"],
        "label": ["Yes"],
        "gone": ["a"],
    }
    expected = {}
    for name in ("text", "number", "raw"):
        read = [(one[name].decode() if name == "raw" and one[name] else one[name], one["label"]) for one in rows]
        labelled = Counter(str(value) for value, label in read if value is not None and label)
        positive = Counter(str(value) for value, label in read if value is not None and label in ("Yes", "yes"))
        expected[name] = {value: (labelled[value], positive[value]) for value in wanted[name] if labelled[value]}
    found = SnapshotRows(tmp_path).label_by_value(wanted, "label", ["Yes", "yes"])
    assert found == expected
    for counts in found.values():
        assert list(counts) == sorted(counts, key=lambda value: (-counts[value][0], value)), "the most frequent first"
    assert SnapshotRows(tmp_path).label_by_value(wanted, "no such label", ["Yes"]) == {}
