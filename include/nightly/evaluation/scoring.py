"""Score raw examples with the models' serving signatures. Beam's workers import this module, so it imports no TFX."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from nightly.evaluation.metrics import Scored, as_rows, checked

RAW = "__raw"  # the column of serialized examples
SERVING_BATCH = 4096  # twice as fast as 1024; larger batches only need more memory
Signature = tf.types.experimental.ConcreteFunction


@dataclass(frozen=True)
class Scorer:
    """Scores batches of raw examples. It can be pickled; each process loads the models once."""

    models: dict[str, str]  # name -> the SavedModel's folder
    label: str
    positive: list[str]  # the label's values that count as 1
    slices: list[str]

    @cached_property
    def signatures(self) -> dict[str, Signature]:
        return {name: tf.saved_model.load(path).signatures["serving_default"] for name, path in self.models.items()}

    def score(self, batch: pa.RecordBatch) -> Iterator[Scored]:
        """Yield the labelled examples of the batch, scored by every model; nothing if there is no label column."""
        if self.label not in batch.schema.names:
            return
        batch = batch.filter(_first(batch, self.label).is_valid())
        positives = pa.array([str(value) for value in self.positive])
        labels = pc.is_in(_first(batch, self.label).cast(pa.string()), positives)
        raw = _first(batch, RAW).to_numpy(zero_copy_only=False)
        yield Scored(
            labels=labels.to_numpy(zero_copy_only=False).astype(np.float32),
            scores={name: _scores(signature, raw) for name, signature in self.signatures.items()},
            columns={name: _texts(batch, name) for name in self.slices},
        )

    def rows(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yield the scored batch in TFMA's form. Raises ValueError if a score is NaN."""
        yield from (as_rows(checked(scored)) for scored in self.score(batch) if len(scored.labels))


def _texts(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return a column's first values as text."""
    missing = name not in batch.schema.names
    values = pa.nulls(batch.num_rows, pa.string()) if missing else _first(batch, name).cast(pa.string())
    return values.fill_null("(missing)")


def _scores(signature: Signature, raw: np.ndarray) -> np.ndarray:
    """Return the signature's only output, float32 [rows], for serialized examples [rows]."""
    (argument,) = signature.structured_input_signature[1]
    parts = []
    for begin in range(0, len(raw), SERVING_BATCH):
        outputs = signature(**{argument: tf.constant(raw[begin : begin + SERVING_BATCH])})
        if len(outputs) != 1:
            raise ValueError(f"serving_default must have one output to be judged by; it has {', '.join(outputs)}")
        (values,) = outputs.values()
        parts.append(np.asarray(values, np.float32).reshape(-1))
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _first(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return the first value of each list in a column, null for an empty list."""
    column = batch.column(name)
    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    return pc.list_element(pc.if_else(pc.equal(pc.list_value_length(column), 0), None, column), 0)
