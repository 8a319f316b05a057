"""A batch of scored examples: what every metric is computed from."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from nightly.evaluation.errors import EvaluationError

NO_EXAMPLES = "the eval split has no labelled examples to judge the model by"


@dataclass(frozen=True)
class Scored:
    """A batch of labelled examples, with the answers of every model.

    kind     labels                             scores of a model
    binary   0 or 1, [rows]                     probabilities of 1, [rows]
    classes  the class's index, [rows]          probabilities, [rows, columns]
    number   on the label's own scale, [rows]   predictions on the same scale, [rows]

    The columns of `scores` are the classes, in the order of the labels. A further column is a class that no label has.
    """

    labels: np.ndarray
    scores: dict[str, np.ndarray]  # by model
    columns: dict[str, pa.StringArray]  # to slice by: [rows], without nulls
    weights: np.ndarray | None = None  # [rows], 0 or more; None if every example weighs 1
    # [rows], for a message; None unless a score is not finite. They are not kept.
    ids: pa.StringArray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def all_weights(self) -> np.ndarray:
        """The weights, float64 [rows]."""
        return np.ones(len(self)) if self.weights is None else self.weights.astype(np.float64)

    def take(self, rows: np.ndarray) -> "Scored":
        """Return the examples at these positions."""
        return Scored(
            labels=self.labels[rows],
            scores={model: scores[rows] for model, scores in self.scores.items()},
            columns={name: values.take(pa.array(rows)) for name, values in self.columns.items()},
            weights=None if self.weights is None else self.weights[rows],
        )


def joined(batches: list[Scored]) -> Scored:
    """Return all examples of one or more batches as one."""
    first = batches[0]
    return Scored(
        labels=np.concatenate([batch.labels for batch in batches]),
        scores={model: np.concatenate([batch.scores[model] for batch in batches]) for model in first.scores},
        columns={name: pa.concat_arrays([batch.columns[name] for batch in batches]) for name in first.columns},
        weights=None if first.weights is None else np.concatenate([batch.weights for batch in batches]),
    )


def not_finite(scores: np.ndarray) -> np.ndarray:
    """Return which rows have a score that is NaN or infinite, bool [rows]."""
    finite = np.isfinite(scores)
    return ~(finite if scores.ndim == 1 else finite.all(axis=1))


def checked(batch: Scored) -> Scored:
    """Return the batch. Raises EvaluationError if a weight is negative."""
    if batch.weights is not None and (batch.weights < 0).any():
        raise EvaluationError(
            f"{(batch.weights < 0).sum()} examples have a negative weight, such as {batch.weights.min():g}: "
            "data.weight_column must be 0 or more"
        )
    return batch


def slices(batch: Scored, columns: list[str]) -> list[tuple[tuple, slice | np.ndarray]]:
    """Return TFMA's key and the rows of each slice in the batch: the whole batch, then each value of each column."""
    rows_by_slice: list[tuple[tuple, slice | np.ndarray]] = [((), slice(None))]
    for name in columns:
        encoded = batch.columns[name].dictionary_encode()
        codes = encoded.indices.to_numpy()
        ends = np.cumsum(np.bincount(codes, minlength=len(encoded.dictionary)))
        parts = np.split(np.argsort(codes, kind="stable"), ends[:-1])
        rows_by_slice += [
            (((name, value),), rows) for value, rows in zip(encoded.dictionary.to_pylist(), parts, strict=True)
        ]
    return rows_by_slice
