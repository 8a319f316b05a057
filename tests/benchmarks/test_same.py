"""What counts as the same statistics."""

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.same import SKETCH, equal, rank_difference, statistics
from nightly.statistics.measure import statistics_of

pytestmark = pytest.mark.slow

VALUES = np.random.default_rng(1).lognormal(size=60_000)


def measured(values, rows):
    column = pa.array([[value] for value in values])
    batches = (pa.record_batch([column[at : at + rows]], ["fare"]) for at in range(0, len(values), rows))
    (feature,) = statistics_of(batches).datasets[0].features
    return feature


def test_the_same_rows_in_other_batches_differ_by_the_sketch_only():
    one, other = measured(VALUES, 1_000), measured(VALUES, 16_384)
    assert equal(one, other)
    assert 0 < rank_difference(one.num_stats, other.num_stats) < SKETCH


def test_other_rows_are_not_the_same():
    one, other = measured(VALUES, 16_384), measured(np.append(VALUES[1:], 3.0), 16_384)
    assert not equal(one, other)


def test_other_ranks_are_seen_though_mean_and_extremes_are_the_same():
    one, other = ([0.0, 10.0, *middle] for middle in ([5.0] * 100, [4.0, 6.0] * 50))
    assert rank_difference(measured(one, 50).num_stats, measured(other, 50).num_stats) > 0.1


@pytest.mark.parametrize(
    ("theirs", "different"),
    [
        ({"fare": VALUES}, 0),
        ({"fare": VALUES, "tip": VALUES}, 2),  # a feature that only one side has, in both splits
        ({"fare": VALUES[:-1]}, 4),  # in both splits the number of examples, and the feature
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_every_feature_of_either_side_counts_and_the_number_of_examples(tmp_path, theirs, different, turned):
    for side, columns in (("ours", {"fare": VALUES}), ("theirs", theirs)):
        lists = {name: pa.array([[value] for value in values]) for name, values in columns.items()}
        batch = pa.RecordBatch.from_arrays(list(lists.values()), list(lists))
        for split in ("train", "eval"):
            folder = tmp_path / side / f"Split-{split}"
            folder.mkdir(parents=True)
            (folder / "FeatureStats.pb").write_bytes(statistics_of(iter([batch])).SerializeToString())
    sides = [tmp_path / "ours", tmp_path / "theirs"]
    assert statistics(*(reversed(sides) if turned else sides))["statistics"]["largest"] == different
