"""Counts of a feature's values are exact, in memory and through files, however the rows are batched."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from nightly.statistics import value_counts
from nightly.statistics.measure import statistics_of
from nightly.statistics.value_counts import ValueCounts


@pytest.mark.parametrize(
    ("held", "held_bytes"),
    [(100_000, 1 << 20), (700, 1 << 20), (20, 1 << 20), (100_000, 20_000), (100_000, 500)],
    ids=["in memory", "through files", "many times through files", "divided files", "as far as they are divided"],
)
def test_every_value_is_counted_and_of_equal_ones_the_larger_comes_first(tmp_path, monkeypatch, held, held_bytes):
    monkeypatch.setattr(value_counts, "MAX_VALUES", held)
    monkeypatch.setattr(value_counts, "MAX_BYTES", held_bytes)
    monkeypatch.setattr(value_counts, "FILES", 4)
    random = np.random.default_rng(0)
    values = [f"value {number}".encode() for number in random.zipf(1.2, 20_000) % 5000]
    counts = ValueCounts(tmp_path / "counts")
    for begin in range(0, len(values), 999):
        counts.add(pa.array([*values[begin : begin + 999], None]))
    unique, frequent = counts.most_frequent(1000)
    expected = Counter(values)
    assert unique == len(expected)
    assert frequent == sorted(expected.items(), key=lambda item: (item[1], item[0]), reverse=True)[:1000]
    assert (tmp_path / "counts").exists() == (held < len(expected) or held_bytes < 1 << 20)
    assert any(tmp_path.rglob("*-divided")) == (held_bytes < 1 << 20)


def test_of_nothing_there_is_nothing(tmp_path):
    counts = ValueCounts(tmp_path / "counts")
    counts.add(pa.array([None, None], pa.binary()))
    assert counts.most_frequent(10) == (0, [])


def test_a_free_text_has_its_real_frequencies():
    texts = [f"complaint {number}" for number in range(20_000)] + ["the same"] * 5
    lists = pa.array([[text] for text in texts])
    (found,) = statistics_of(iter([pa.record_batch({"text": lists})])).datasets[0].features
    assert found.string_stats.unique == 20_001
    assert [(top.value, top.frequency) for top in found.string_stats.top_values[:2]] == [
        ("the same", 5),
        ("complaint 9999", 1),
    ]
