"""Compares the results of our nodes with those of TFX's nodes on the same inputs."""

import math
from pathlib import Path
from typing import Any

import numpy as np

SKETCH = 0.01  # TFDV's StatsOptions.epsilon: the largest error of a quantile's rank, as a share of the rows
# Values that TFDV estimates by a quantile sketch, which depends on the batches of rows.
BY_SKETCH = ("histograms", "median")


def results(root: Path) -> dict[str, dict[str, Any]]:
    """Return, by kind of result, what was compared, the largest difference, and the allowed one.

    :param root: the root of a pipeline with the nodes of both sides
    """

    def only(node: str, output: str) -> Path:
        (folder,) = (root / node / output).iterdir()
        return folder

    return {
        **statistics(only("same_statistics", "statistics"), only("StatisticsGen", "statistics")),
        "vocabularies": _vocabularies(only("transform", "transform_graph"), only("Transform", "transform_graph")),
        "metrics": _metrics(only("evaluator", "evaluation"), only("Evaluator", "evaluation")),
    }


def statistics(ours: Path, theirs: Path) -> dict[str, dict[str, Any]]:
    """Return the same for two folders of ExampleStatistics."""
    import tensorflow_data_validation as tfdv

    different, features, ranks = 0, 0, [0.0]
    for split in ("train", "eval"):
        datasets = [
            tfdv.load_stats_binary(str(folder / f"Split-{split}/FeatureStats.pb")).datasets[0]
            for folder in (ours, theirs)
        ]
        different += datasets[0].num_examples != datasets[1].num_examples
        our, their = ({str(f.path.step[0]): f for f in dataset.features} for dataset in datasets)
        names = our.keys() | their.keys()
        features += len(names)
        for name in names:
            if name not in our or name not in their or not equal(our[name], their[name]):
                different += 1
            elif their[name].HasField("num_stats"):
                ranks.append(rank_difference(our[name].num_stats, their[name].num_stats))
    exact = {"compared": f"{features} features of both splits, but for the quantiles", "largest": different}
    return {
        "statistics": {**exact, "allowed": 0},
        "quantiles": {
            "compared": f"ranks in {len(ranks) - 1} numeric features, as a share of the rows",
            "largest": max(ranks),
            "allowed": SKETCH,
        },
    }


def equal(ours: Any, theirs: Any) -> bool:
    """Return whether two features' statistics are equal, up to rounding; values BY_SKETCH are ignored."""
    from google.protobuf import json_format

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, dict):
            return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        if isinstance(a, list):
            return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
        return math.isclose(a, b, rel_tol=1e-9) if isinstance(a, float) and isinstance(b, float) else a == b

    sides = [json_format.MessageToDict(side) for side in (ours, theirs)]
    for side in sides:
        for name in BY_SKETCH:
            side.get("numStats", {}).pop(name, None)
    return same(*sides)


def rank_difference(ours: Any, theirs: Any) -> float:
    """Return how far a feature's NumericStatistics differ in values BY_SKETCH, as a share of the rows.

    For a histogram that is the largest distance of the two cumulative distributions; for the median, the share of rows
    between the two.
    """
    differences = [0.0]
    for our_histogram, their_histogram in zip(ours.histograms, theirs.histograms, strict=True):
        edges, shares = zip(_cumulative(our_histogram), _cumulative(their_histogram), strict=True)
        all_edges = np.concatenate(edges)
        at = [np.interp(all_edges, *side) for side in zip(edges, shares, strict=True)]
        differences.append(float(np.max(np.abs(at[0] - at[1]))))
        medians = np.interp([ours.median, theirs.median], edges[1], shares[1])
        differences.append(float(abs(medians[0] - medians[1])))
    return max(differences)


def _cumulative(histogram: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges of the buckets, and the share of the values up to each."""
    counts = np.array([0.0, *(bucket.sample_count for bucket in histogram.buckets)])
    edges = [histogram.buckets[0].low_value, *(bucket.high_value for bucket in histogram.buckets)]
    return np.array(edges), counts.cumsum() / counts.sum()


def _vocabularies(ours: Path, theirs: Path) -> dict[str, Any]:
    import tensorflow_transform as tft

    outputs = [Path(tft.TFTransformOutput(str(folder)).transform_savedmodel_dir, "assets") for folder in (ours, theirs)]
    names = sorted({path.name for assets in outputs for path in assets.iterdir()})
    contents = [[(path := assets / name).is_file() and path.read_bytes() for name in names] for assets in outputs]
    different = sum(our != their for our, their in zip(*contents, strict=True))
    return {"compared": f"{len(names)} files, bytes", "largest": different, "allowed": 0}


def _metrics(ours: Path, theirs: Path) -> dict[str, Any]:
    import tensorflow_model_analysis as tfma

    sides = [_figures(tfma.load_eval_result(str(folder))) for folder in (ours, theirs)]
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
