"""How far the results of our nodes are from those of TFX's, which ran beside them on the same inputs."""

import math
from pathlib import Path
from typing import Any

import numpy as np

SKETCH = 0.01  # by TFDV's StatsOptions.epsilon a quantile's rank is off by at most this share of the rows
# Its figures that come from a sketch of quantiles, which depends on how the rows come in batches.
BY_SKETCH = ("histograms", "median")


def results(root: Path) -> dict[str, dict[str, Any]]:
    """What was compared, the largest difference, and the one that is allowed, by kind of result.

    :param root: the root of a pipeline with the nodes of both sides
    """

    def only(node: str, output: str) -> Path:
        (place,) = (root / node / output).iterdir()
        return place

    return {
        **statistics(only("same_statistics", "statistics"), only("StatisticsGen", "statistics")),
        "vocabularies": _vocabularies(only("transform", "transform_graph"), only("Transform", "transform_graph")),
        "metrics": _metrics(only("evaluator", "evaluation"), only("Evaluator", "evaluation")),
    }


def statistics(ours: Path, theirs: Path) -> dict[str, dict[str, Any]]:
    """The same for two folders of ExampleStatistics alone."""
    import tensorflow_data_validation as tfdv

    different, features, ranks = 0, 0, [0.0]
    for split in ("train", "eval"):
        datasets = [
            tfdv.load_stats_binary(str(place / f"Split-{split}/FeatureStats.pb")).datasets[0]
            for place in (ours, theirs)
        ]
        different += datasets[0].num_examples != datasets[1].num_examples
        mine, its = ({str(f.path.step[0]): f for f in dataset.features} for dataset in datasets)
        names = mine.keys() | its.keys()
        features += len(names)
        for name in names:
            if name not in mine or name not in its or not equal(mine[name], its[name]):
                different += 1
            elif its[name].HasField("num_stats"):
                ranks.append(rank_difference(mine[name].num_stats, its[name].num_stats))
    exact = {"compared": f"{features} features of both splits, but for the quantiles", "largest": different}
    return {
        "statistics": {**exact, "allowed": 0},
        "quantiles": {
            "compared": f"ranks in {len(ranks) - 1} numeric features, as a share of the rows",
            "largest": max(ranks),
            "allowed": SKETCH,
        },
    }


def equal(one: Any, other: Any) -> bool:
    """Whether the statistics of two features are the same, to the last digits of a sum; without what is BY_SKETCH."""
    from google.protobuf import json_format

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, dict):
            return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        if isinstance(a, list):
            return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
        return math.isclose(a, b, rel_tol=1e-9) if isinstance(a, float) and isinstance(b, float) else a == b

    sides = [json_format.MessageToDict(side) for side in (one, other)]
    for side in sides:
        for name in BY_SKETCH:
            side.get("numStats", {}).pop(name, None)
    return same(*sides)


def rank_difference(one: Any, other: Any) -> float:
    """How far the NumericStatistics of a feature differ in what is BY_SKETCH, as a share of the rows.

    For each kind of histogram that is the largest distance of the two cumulative distributions; for the median, the
    rows between the two.
    """
    found = [0.0]
    for mine, its in zip(one.histograms, other.histograms, strict=True):
        paths, shares = zip(_cumulative(mine), _cumulative(its), strict=True)
        everywhere = np.concatenate(paths)
        at = [np.interp(everywhere, *side) for side in zip(paths, shares, strict=True)]
        found.append(float(np.max(np.abs(at[0] - at[1]))))
        medians = np.interp([one.median, other.median], paths[1], shares[1])
        found.append(float(abs(medians[0] - medians[1])))
    return max(found)


def _cumulative(histogram: Any) -> tuple[np.ndarray, np.ndarray]:
    """The edges of the buckets, and the share of the values up to each."""
    counts = np.array([0.0, *(bucket.sample_count for bucket in histogram.buckets)])
    edges = [histogram.buckets[0].low_value, *(bucket.high_value for bucket in histogram.buckets)]
    return np.array(edges), counts.cumsum() / counts.sum()


def _vocabularies(ours: Path, theirs: Path) -> dict[str, Any]:
    import tensorflow_transform as tft

    outputs = [Path(tft.TFTransformOutput(str(place)).transform_savedmodel_dir, "assets") for place in (ours, theirs)]
    names = sorted({path.name for assets in outputs for path in assets.iterdir()})
    contents = [[(path := assets / name).is_file() and path.read_bytes() for name in names] for assets in outputs]
    different = sum(one != other for one, other in zip(*contents, strict=True))
    return {"compared": f"{len(names)} files, bytes", "largest": different, "allowed": 0}


def _metrics(ours: Path, theirs: Path) -> dict[str, Any]:
    import tensorflow_model_analysis as tfma

    sides = [_figures(tfma.load_eval_result(str(place))) for place in (ours, theirs)]
    common = sides[0].keys() & sides[1].keys()
    if not {name for _, name in common} >= {"auc", "binary_crossentropy", "example_count"}:
        raise RuntimeError(f"the two evaluations have too little in common: {sorted(map(str, common))}")
    largest = max(abs(sides[0][key] - sides[1][key]) for key in common)
    return {"compared": f"{len(common)} figures of all slices", "largest": largest, "allowed": 1e-6}


def _figures(result: Any) -> dict[tuple, float]:
    return {
        (key, name): value["doubleValue"]
        for key, outputs in result.slicing_metrics
        for name, value in outputs[""][""].items()
        if "doubleValue" in value
    }
