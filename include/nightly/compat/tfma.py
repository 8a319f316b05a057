"""Private parts of TFMA: its combiners, which here take a batch at a time. Labels are 0 or 1, weights 1."""

from collections.abc import Callable
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.contrib.aggregates import binary_confusion_matrices as matrices
from tensorflow_model_analysis.evaluators import metrics_plots_and_validations_evaluator as evaluator
from tensorflow_model_analysis.metrics import (
    binary_confusion_matrices,
    calibration,
    calibration_histogram,
    cross_entropy_metrics,
    example_count,
)

MetricComputations = evaluator.MetricComputations
separate_computations = evaluator._filter_and_separate_computations
is_private_metric = evaluator._is_private_metrics


def _count(combiner: Any, accumulator: float, labels: np.ndarray, scores: np.ndarray) -> float:
    return accumulator + len(labels)


def _totals(combiner: Any, accumulator: Any, labels: np.ndarray, scores: np.ndarray) -> Any:
    accumulator.total_weighted_labels += labels.sum(dtype=np.float64)
    accumulator.total_weighted_predictions += scores.sum(dtype=np.float64)
    accumulator.total_weighted_examples += len(labels)
    return accumulator


def _cross_entropy(combiner: Any, accumulator: Any, labels: np.ndarray, scores: np.ndarray) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):  # a score of exactly 0 or 1 gives inf or NaN, as in TFMA
        mean = combiner._cross_entropy(labels.astype(np.float64), scores.astype(np.float64))
    accumulator.total_cross_entropy += mean * len(labels)
    accumulator.total_example_weights += len(labels)
    return accumulator


def _histogram(combiner: Any, accumulator: dict, labels: np.ndarray, scores: np.ndarray) -> dict:
    """Add to the score's buckets, from which TFMA computes all thresholds of a curve."""
    scores = scores.astype(np.float64)
    last = combiner._num_buckets + 1
    positions = np.clip((scores - combiner._left) / combiner._range * combiner._num_buckets + 1, 0, last)
    buckets, indices = np.unique(positions.astype(np.int64), return_inverse=True)
    sums = (np.bincount(indices, weights).tolist() for weights in (labels, scores, None))
    for number, *totals in zip(buckets.tolist(), *sums, strict=True):
        if number in accumulator:
            accumulator[number].merge(calibration_histogram.Bucket(number, *totals))
        else:
            accumulator[number] = calibration_histogram.Bucket(number, *totals)
    return accumulator


def _matrices(combiner: Any, accumulator: dict, labels: np.ndarray, scores: np.ndarray) -> dict:
    """Add to the confusion matrix of each threshold."""
    inner = combiner._binary_confusion_matrices
    scores = scores.astype(np.float64)
    for threshold in inner._thresholds:
        positive = labels == 1 if inner._enable_fractional_labels else labels > threshold
        predicted = scores > threshold
        tp, fp = float((positive & predicted).sum()), float((~positive & predicted).sum())
        fn, tn = float(positive.sum()) - tp, float((~positive).sum()) - fp
        entry = matrices._ThresholdEntry(matrices.Matrix(tp=tp, tn=tn, fp=fp, fn=fn), [], [], [], [])
        accumulator[threshold] = inner._merge_entry(accumulator, threshold, entry)
    return accumulator


BATCHED: dict[type[beam.CombineFn], Callable[[Any, Any, np.ndarray, np.ndarray], Any]] = {
    example_count._ExampleCountCombiner: _count,
    calibration._WeightedLabelsPredictionsExamplesCombiner: _totals,
    cross_entropy_metrics._BinaryCrossEntropyCombiner: _cross_entropy,
    calibration_histogram._CalibrationHistogramCombiner: _histogram,
    binary_confusion_matrices._BinaryConfusionMatrixCombiner: _matrices,
}
