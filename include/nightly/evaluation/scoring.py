"""Score raw examples with the models' serving signatures. Beam's workers import this module, so it imports no TFX."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from nightly.evaluation.errors import EvaluationError
from nightly.evaluation.labels import aligned, read_labels
from nightly.evaluation.scored import Scored, not_finite
from nightly.records.label_config import Label
from nightly.records.label_spec import LabelSpec
from nightly.state.workers import WorkerState

RAW = "__raw"  # the column of serialized examples
SHOWN = 3  # columns in a message
SERVING_BATCH = 4096  # twice as fast as 1024; larger batches only need more memory
Signature = tf.types.experimental.ConcreteFunction


@dataclass(frozen=True)
class Scorer:
    """Scores batches of raw examples. It can be pickled; each process loads the models once.

    Labels and scores are in the classes of `classes`, whatever classes a model has (see labels.aligned).
    """

    models: dict[str, str]  # name -> the SavedModel's folder
    specs: dict[str, LabelSpec]  # name -> what its output means
    label: Label
    slices: list[str] = field(default_factory=list)
    weight_column: str = ""
    classes: list[str] = field(default_factory=list)  # the candidate's
    contents: list[str] = field(default_factory=list)  # the paths of the content that the models are in
    state: WorkerState = field(default_factory=WorkerState)
    id_columns: list[str] = field(default_factory=list)  # identify an example in a message

    @cached_property
    def signatures(self) -> dict[str, Signature]:
        self.state.fetch(*self.contents)
        return {name: tf.saved_model.load(path).signatures["serving_default"] for name, path in self.models.items()}

    def score(self, batch: pa.RecordBatch) -> Iterator[Scored]:
        """Yield the labelled examples of the batch, scored by every model; nothing if there is no label column."""
        if self.label.column not in batch.schema.names:
            return
        labels, labelled = read_labels(_first(batch, self.label.column), self.label, self.classes)
        if not labelled.all():
            batch = batch.filter(pa.array(labelled))
        raw = _first(batch, RAW).to_numpy(zero_copy_only=False)
        scores = {name: self._scores(name, raw) for name in self.models}
        yield Scored(
            labels=labels,
            scores=scores,
            columns={name: _texts(batch, name) for name in self.slices},
            weights=_weights(batch, self.weight_column) if self.weight_column else None,
            ids=_ids(batch, self.id_columns) if any(not_finite(values).any() for values in scores.values()) else None,
        )

    def _scores(self, name: str, raw: np.ndarray) -> np.ndarray:
        """Return a model's answers to serialized examples [rows], as in Scored."""
        spec, signature = self.specs[name], self.signatures[name]
        (argument,) = signature.structured_input_signature[1]
        width = len(spec.classes) if spec.kind == "classes" else 1
        parts = [np.empty((0, width), np.float32)]
        for begin in range(0, len(raw), SERVING_BATCH):
            outputs = signature(**{argument: tf.constant(raw[begin : begin + SERVING_BATCH])})
            parts.append(_judged(outputs, spec).reshape(-1, width))
        scores = np.concatenate(parts)
        return aligned(scores, spec.classes, self.classes) if spec.kind == "classes" else scores[:, 0]


def _judged(outputs: dict[str, tf.Tensor], spec: LabelSpec) -> np.ndarray:
    """Return the output that the model is judged by: the spec's, or the only one."""
    if spec.output not in outputs and len(outputs) != 1:
        raise EvaluationError(
            f"serving_default must have the output {spec.output!r} to be judged by, or only one; it has "
            f"{', '.join(sorted(outputs))}"
        )
    values = outputs[spec.output] if spec.output in outputs else next(iter(outputs.values()))
    return np.asarray(values, np.float32)


def _weights(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """Return the weights, float64 [rows]; a row without one weighs 0, as in training."""
    if name not in batch.schema.names:
        raise EvaluationError(f"the examples have no column {name!r}, which data.weight_column names")
    return _first(batch, name).cast(pa.float64(), safe=False).fill_null(0.0).to_numpy(zero_copy_only=False)


def _ids(batch: pa.RecordBatch, columns: list[str]) -> pa.StringArray:
    """Return what identifies each row: its id, or without one its first columns."""
    others = [name for name in batch.schema.names if name != RAW][:SHOWN]
    names = [name for name in columns if name in batch.schema.names] or others
    texts = [_texts(batch, name).to_pylist() for name in names]
    return pa.array([", ".join(map("{} = {}".format, names, row)) for row in zip(*texts, strict=True)], pa.string())


def _texts(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return a column's first values as text; for bytes that are no text, their number."""
    missing = name not in batch.schema.names
    values = pa.nulls(batch.num_rows, pa.string()) if missing else _first(batch, name)
    try:
        values = values.cast(pa.string())
    except pa.ArrowInvalid:
        values = pa.array(map(_text, values.to_pylist()), pa.string())
    return values.fill_null("(missing)")


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return f"{len(value)} bytes"


def _first(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return the first value of each list in a column, null for an empty list."""
    column = batch.column(name)
    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    return pc.list_element(pc.if_else(pc.equal(pc.list_value_length(column), 0), None, column), 0)
