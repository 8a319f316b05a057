"""What a Beam engine must give for the same input, against this process: the same, within these bounds."""

from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_model_analysis as tfma

from nightly.records.evaluation import Evaluation


def records(folder: Path, split: str) -> list[bytes]:
    """The split's examples, sorted: their order is the runner's."""
    found = []
    for path in (folder / f"Split-{split}").iterdir():
        read = tf.data.TFRecordDataset([str(path)], "GZIP" if path.suffix == ".gz" else "").as_numpy_iterator()
        found += [tf.train.Example.FromString(record).SerializeToString(deterministic=True) for record in read]
    return sorted(found)


def values(examples: list[tf.train.Example], name: str) -> list[float]:
    """A feature's values, sorted: the order of the rows is the runner's."""
    features = [example.features.feature[name] for example in examples]
    return sorted(value for f in features for value in (*f.int64_list.value, *f.float_list.value))


def assert_examples(here: Path, there: Path) -> None:
    """The same rows are on the same sides, byte for byte."""
    for split in ("train", "eval"):
        assert records(there, split) == records(here, split), split
        assert records(here, split)
    names = [path.name for path in (there / "Split-train").iterdir()]
    assert names and all(name.startswith("data_tfrecord-0") for name in names)


def assert_statistics(here: Path, there: Path) -> None:
    """All is equal but medians, which are TFDV's approximation."""
    for split in ("train", "eval"):
        file = f"Split-{split}/FeatureStats.pb"
        (ours,) = tfdv.load_stats_binary(str(here / file)).datasets
        (theirs,) = tfdv.load_stats_binary(str(there / file)).datasets
        assert ours.num_examples == theirs.num_examples > 0
        others = {feature.path.step[0]: feature for feature in theirs.features}
        assert others.keys() == {feature.path.step[0] for feature in ours.features}
        for feature in ours.features:
            kind = feature.WhichOneof("stats")
            mine, other = getattr(feature, kind), getattr(others[feature.path.step[0]], kind)
            for name in ("num_non_missing", "num_missing", "tot_num_values"):
                assert getattr(mine.common_stats, name) == getattr(other.common_stats, name)
            if kind == "num_stats":
                for name, tolerance in {"mean": 1e-6, "std_dev": 1e-6, "min": 0, "max": 0, "median": 0.02}.items():
                    expected = pytest.approx(getattr(other, name), rel=tolerance)
                    assert getattr(mine, name) == expected, (feature.path, name)
            else:
                assert mine.unique == other.unique
                tops = [{(v.value, v.frequency) for v in side.top_values} for side in (mine, other)]
                assert tops[0] == tops[1]


def assert_transform(graph: Path, other_graph: Path, examples: Path, other_examples: Path) -> None:
    """The vocabularies are equal, and the transformed values to 1e-5."""
    assets = "transform_fn/assets"
    ours, theirs = ({p.name: p.read_bytes() for p in (g / assets).iterdir()} for g in (graph, other_graph))
    assert ours == theirs and ours
    for split in ("train", "eval"):
        mine, other = (
            [tf.train.Example.FromString(record) for record in records(folder, split)]
            for folder in (examples, other_examples)
        )
        assert len(mine) == len(other) > 0
        assert mine[0].features.feature.keys() == other[0].features.feature.keys()
        for name in mine[0].features.feature:
            assert values(mine, name) == pytest.approx(values(other, name), abs=1e-5), name


def assert_evaluation(here: Path, there: Path) -> None:
    """The metrics that the gate reads are equal to 1e-6, in every slice."""
    ours, theirs = (Evaluation.load(folder / "evaluation.json") for folder in (here, there))
    assert ours.examples == theirs.examples and len(ours.examples) >= 5
    assert ours.candidate.keys() == theirs.candidate.keys()
    for key, by_metric in ours.candidate.items():
        assert by_metric == pytest.approx(theirs.candidate[key], abs=1e-6), key
    assert len(tfma.load_eval_result(str(there)).slicing_metrics) == len(ours.examples)
