"""Vocabularies, from each batch's tokens to the ordered file: TFT's VocabularyAccumulate, Merge, Prune and Write.

A token is bytes, or an int if the input is numeric. A vocabulary is ordered by an indicator: a count, a weight, or
(mutual information with the label, frequency).
"""

import hashlib
import heapq
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_transform import analyzer_nodes, analyzers, tf_utils
from tensorflow_transform.beam import analyzer_impls

from nightly.compat.tft import Ordering, count_and_token_to_bytes, means_by_token, mutual_information

log = logging.getLogger("nightly")

Token = bytes | int
Counts = list[tuple[Any, Token]]  # (indicator, token), as TFT sorts them
INFORMATION = {
    Ordering.MUTUAL_INFORMATION: False,
    Ordering.WEIGHTED_MUTUAL_INFORMATION: True,
}  # ordering -> whether it is weighted
LABEL_TOTALS = (tf_utils.GLOBAL_Y_COUNT_SENTINEL_STRING, tf_utils.GLOBAL_Y_COUNT_SENTINEL_INT)


def is_supported(operation: analyzer_nodes.VocabularyAccumulate) -> bool:
    """Return True if vocabularies of this ordering can be computed in this process."""
    return operation.vocab_ordering_type in (
        *INFORMATION,
        Ordering.FREQUENCY,
        Ordering.WEIGHTED_FREQUENCY,
    )


class Tokens:
    """The state of each token: a count, a sum of weights, or the means of the label's values."""

    def __init__(self, operation: analyzer_nodes.VocabularyAccumulate):
        ordering = operation.vocab_ordering_type
        if ordering in INFORMATION:
            self.states: dict[Token, Any] = {}
            self._means = _label_means(weighted=INFORMATION[ordering])
            self._weighted = INFORMATION[ordering]
            self.add = self._add_means
        elif ordering == Ordering.WEIGHTED_FREQUENCY:
            self.states = defaultdict(float)
            self.add = self._add_weights
        else:
            self.states = Counter()
            self.add = self._add_counts

    def result(self) -> dict[Token, Any]:
        return self.states

    def _add_counts(self, values: tuple[np.ndarray, ...]) -> None:
        self.states.update(values[0].tolist())

    def _add_weights(self, values: tuple[np.ndarray, ...]) -> None:
        tokens, weights = values
        for token, weight in zip(tokens.tolist(), weights.tolist(), strict=True):
            self.states[token] += weight

    def _add_means(self, values: tuple[np.ndarray, ...]) -> None:
        for token, means in means_by_token(values, self._weighted):
            state = self.states.get(token) or self._means.create_accumulator()
            self.states[token] = self._means.add_input(state, means)


def merge(operation: analyzer_nodes.VocabularyMerge, states: dict[Token, Any]) -> Counts:
    """Return (indicator, token) of each token."""
    if operation.vocab_ordering_type not in INFORMATION:
        return [(count, token) for token, count in states.items()]
    combiner = _label_means(weighted=INFORMATION[operation.vocab_ordering_type])
    means = {token: combiner.extract_output(state) for token, state in states.items()}
    totals = [means.pop(token) for token in LABEL_TOTALS if token in means]
    if not means:
        return []
    min_difference = operation.min_diff_from_avg
    if min_difference is None:
        min_difference = analyzers.calculate_recommended_min_diff_from_avg(totals[0].count * totals[0].weight)
    counts = []
    for item in means.items():
        token, (information, _, frequency) = mutual_information(
            item, totals[0], operation.use_adjusted_mutual_info, min_difference
        )
        counts.append(((information, frequency), token))
    return counts


def prune(operation: analyzer_nodes.VocabularyPrune, counts: Counts) -> Counts:
    """Drop tokens below the thresholds; if there is a top_k, keep the first of them, in order."""
    kept = _above(counts, operation.frequency_threshold, operation.informativeness_threshold, operation.input_dtype)
    if operation.top_k is not None:
        kept = analyzer_impls.maybe_add_empty_vocabulary_dummy(
            heapq.nlargest(operation.top_k, kept), operation.input_dtype
        )
    if operation.key_fn:
        covered = _above(
            counts,
            operation.coverage_frequency_threshold,
            operation.coverage_informativeness_threshold,
            operation.input_dtype,
        )
        kept = list({*kept, *_largest_per_key(covered, operation.key_fn, operation.coverage_top_k)})
    return kept


def order_and_write(
    operation: analyzer_nodes.VocabularyOrderAndWrite, folder: Path, counts: Counts, reserved: Iterable[bytes] = ()
) -> np.ndarray:
    """Write the vocabulary to a file in `folder`, a token a line. Return its path as the graph's value."""
    reserved = list(reserved)
    if not operation.input_is_sorted or reserved:
        taken = set(reserved)
        counts = [item for item in counts if item[1] not in taken]
        if operation.fingerprint_shuffle:
            counts.sort(key=lambda item: hashlib.sha1(item[1]).digest())
        else:
            counts.sort(reverse=True)
        counts = [(-1, token) for token in reserved] + counts
        counts = analyzer_impls.maybe_add_empty_vocabulary_dummy(counts, operation.input_dtype)
    if operation.store_frequency:
        lines = (count_and_token_to_bytes(count, token) for count, token in counts)
    else:
        lines = (tf.compat.as_bytes(token) for _, token in counts)
    path = folder / operation.vocab_filename
    path.parent.mkdir(parents=True, exist_ok=True)
    if operation.file_format == "tfrecord_gzip":
        path = path.with_name(path.name + ".tfrecord.gz")
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for line in lines:
                writer.write(line)
    else:
        with path.open("wb") as file:
            file.writelines(line + b"\n" for line in lines)
    log.info("vocabulary %s: %d entries", operation.vocab_filename, len(counts))
    return np.array(str(path))


def _above(counts: Counts, frequency: float, information: float, dtype: str) -> Counts:
    """Return the counts at or above both thresholds, each as (sort key, token as bytes)."""
    kept = []
    for indicator, token in counts:
        order, count = indicator if isinstance(indicator, tuple) else (indicator, indicator)
        informative = not isinstance(indicator, tuple) or order >= information
        if (frequency <= 0 or count >= frequency) and (information == float("-inf") or informative):
            kept.append((order, token if dtype == tf.string.name else tf.compat.as_bytes(str(token))))
    return kept


def _largest_per_key(counts: Counts, key_of: Callable[[bytes], Any], top_k: int | None) -> Counts:
    if top_k is None:
        return counts
    by_key = defaultdict(list)
    for item in counts:
        by_key[key_of(item[1])].append(item)
    return [item for items in by_key.values() for item in heapq.nlargest(top_k, items)]


def _label_means(*, weighted: bool) -> analyzers.WeightedMeanAndVarCombiner:
    return analyzers.WeightedMeanAndVarCombiner(
        np.float32, output_shape=(None,), compute_variance=False, compute_weighted=weighted
    )
