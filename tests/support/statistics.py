"""TFDV's statistics compared, and tf.Examples read back from disk."""

from pathlib import Path

import pytest
import tensorflow as tf

FREQUENT = 20  # of more values than its sketch holds, TFDV estimates the rarer ones


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
    return path


def by_name(statistics):
    return {feature.path.step[0]: feature for feature in statistics.datasets[0].features}


def examples(folder):
    """Every tf.Example below a folder, serialized."""
    files = sorted(str(path) for path in Path(folder).rglob("*tfrecord*"))
    found = []
    for file in files:
        records = tf.data.TFRecordDataset([file], "GZIP" if file.endswith(".gz") else "")
        found += [tf.train.Example.FromString(record.numpy()) for record in records]
    return [example.SerializeToString(deterministic=True) for example in found]


def assert_same(one, other, quantiles=True):
    """The same statistics, but for the last digits of a float.

    Quantiles are sketches, which depend on how the rows came.
    """
    assert one.datasets[0].num_examples == other.datasets[0].num_examples
    ours, theirs = by_name(one), by_name(other)
    assert set(ours) == set(theirs)
    for name, feature in ours.items():
        kind = feature.WhichOneof("stats")
        assert (kind, feature.type) == (theirs[name].WhichOneof("stats"), theirs[name].type), name
        mine, its = getattr(feature, kind), getattr(theirs[name], kind)
        for count in ("num_non_missing", "min_num_values", "max_num_values", "tot_num_values"):
            assert getattr(mine.common_stats, count) == getattr(its.common_stats, count), (name, count)
        if kind == "num_stats":
            figures = ["mean", "std_dev", "min", "max", "num_zeros", *(["median"] if quantiles else [])]
            for figure in figures:
                assert getattr(mine, figure) == pytest.approx(getattr(its, figure), rel=1e-6), (name, figure)
        else:
            assert mine.unique == its.unique, name
            most = [[bucket.sample_count for bucket in side.rank_histogram.buckets[:FREQUENT]] for side in (mine, its)]
            assert most[0] == most[1], name
