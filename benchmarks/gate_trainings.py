"""Real trainings for gate_noise, on arrays in memory.

The models taxi and fares have their own preprocessing, network and settings. Handwritten digits come with scikit-learn.
"""

from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.config import ModelConfig
from nightly.records.data_config import column_name
from nightly.records.label_spec import OTHER, LabelSpec

INSIDE_TFX = "tfx/examples/chicago_taxi_pipeline/data/big_tipper_label/data.csv"
A_NIGHT = ("2014-07-01", "2015-07-01")  # the window of a night as of the second day
QUARTERS = {
    "top_left": (0, 0),
    "top_right": (0, 4),
    "bottom_left": (4, 0),
    "bottom_right": (4, 4),
}  # of an image of 8 by 8
EVAL_SHARE = 0.2


@dataclass(frozen=True)
class Task:
    """A label of some rows, and what its gate allows."""

    name: str
    config: ModelConfig
    useful: tuple[str, ...]  # the features whose loss must be noticed, as the network reads them
    window: tuple[str, str] | None = None  # the first day and the day after the last; None: all rows
    hidden: tuple[str, ...] = ()  # features that tell the label

    @property
    def kind(self) -> str:
        return self.config.data.label.kind


def taxi_with(label: dict[str, Any], gate: dict[str, Any], steps: int) -> ModelConfig:
    """Return the config of the model taxi, with another label and gate."""
    values = load_config("taxi").model_dump()
    values["data"]["label"], values["model_gate"], values["training"]["steps"] = label, gate, steps
    return ModelConfig.parse(values, where=f"a model of {label['column']}")


@dataclass
class Rows:
    """The rows of a split, transformed."""

    features: dict[str, np.ndarray]  # [rows, width]
    labels: np.ndarray  # as in Scored
    columns: dict[str, pa.Array]  # to slice by

    def blind(self, *features: str) -> "Rows":
        """Return the rows with 0 for these features."""
        constant = {name: np.zeros_like(self.features[name]) for name in features}
        return Rows(self.features | constant, self.labels, self.columns)


@dataclass
class Table:
    """All rows, as they are and transformed."""

    frame: pd.DataFrame
    features: dict[str, np.ndarray]
    transform: Any  # tft.TFTransformOutput; None of digits
    is_eval: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.is_eval = np.random.default_rng(0).random(len(self.frame)) < EVAL_SHARE

    def classes(self, task: Task) -> list[str]:
        """Return the classes as a night learns them."""
        if task.kind != "classes":
            return []
        label = task.config.data.label
        counts = self.frame[label.column][~self.is_eval].value_counts()
        return [*counts[counts >= label.min_class_rows].index, OTHER]

    def splits(self, task: Task) -> tuple[Rows, Rows]:
        """Return the rows to train on, and those to judge by."""
        classes, label = self.classes(task), task.config.data.label
        column = self.frame[label.column]
        if task.kind == "classes":
            labels = column.map({name: index for index, name in enumerate(classes)}).fillna(len(classes) - 1)
            labels = labels.to_numpy(np.int64)
        elif task.kind == "binary":
            labels = column.astype(str).isin(label.positive).to_numpy(np.float32)
        else:
            labels = column.to_numpy(np.float32)
        train, held_out = (
            Rows(
                {name: values[rows] for name, values in self.features.items()},
                labels[rows],
                {name: pa.array(self.frame[name][rows].astype(str)) for name in task.config.model_gate.slices},
            ).blind(*task.hidden)
            for rows in (~self.is_eval, self.is_eval)
        )
        return train, held_out


def read(task: Task, folder: Path) -> Table:
    return read_digits() if task.kind == "classes" else read_trips(task, folder)


def read_digits() -> Table:
    """Return 1,797 images; each quarter is a feature of 16 numbers from 0 to 1."""
    from sklearn import datasets

    digits = datasets.load_digits()
    features = {
        name: (digits.images[:, top : top + 4, left : left + 4] / 16).reshape(-1, 16).astype(np.float32)
        for name, (top, left) in QUARTERS.items()
    }
    return Table(pd.DataFrame({"digit": digits.target.astype(str)}), features, None)


def read_trips(task: Task, folder: Path) -> Table:
    """Return the real trips of the task's window, transformed as a night of its model does."""
    import tensorflow as tf
    import tensorflow_transform as tft
    from tensorflow_transform.tf_metadata import dataset_metadata

    from nightly.schemas.curated import read_schema
    from nightly.training.transforming import LABEL, preprocessing_fn
    from nightly.transform.engine import write_transform_graph

    site = Paths.from_environment().ml_python.parent.parent / "lib"
    frame = pd.read_csv(next(site.glob(f"python3*/site-packages/{INSIDE_TFX}"))).rename(columns=column_name)
    if task.window:
        starts = pd.to_datetime(frame[task.config.data.time_column], unit="s")
        first, end = (pd.Timestamp(day) for day in task.window)
        frame = frame[(starts >= first) & (starts < end)].reset_index(drop=True)
    schema = read_schema(task.config.folder / "schema.pbtxt")
    examples = [_example(row, schema) for row in frame.to_dict("records")]
    split = folder / "Split-train"
    split.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(split / "rows")) as writer:
        for example in examples:
            writer.write(example)
    graph = folder / "graph"
    of_model = partial(preprocessing_fn, custom_config={"model": task.config.name})
    write_transform_graph(of_model, str(split), dataset_metadata.DatasetMetadata(schema), graph)
    transform = tft.TFTransformOutput(str(graph))
    outputs = transform.transform_raw_features(tf.io.parse_example(examples, transform.raw_feature_spec()))
    return Table(frame, {name: values.numpy() for name, values in outputs.items() if name != LABEL}, transform)


def _example(row: dict[str, Any], schema: Any) -> bytes:
    import tensorflow as tf
    from tensorflow_metadata.proto.v0 import schema_pb2

    example = tf.train.Example()
    for feature in schema.feature:
        value = row.get(feature.name, np.nan)
        if value != value:
            continue
        target = example.features.feature[feature.name]
        if feature.type == schema_pb2.INT:
            target.int64_list.value.append(int(value))
        elif feature.type == schema_pb2.FLOAT:
            target.float_list.value.append(float(value))
        else:
            target.bytes_list.value.append(str(value).encode())
    return example.SerializeToString()


class Trainer:
    """Trains one network again and again. It is traced once: a seed only sets weights and the order of rows."""

    def __init__(self, task: Task, table: Table, constant: float):
        """Trace the network.

        :param constant: the best constant answer, with which a number label's network begins
        """
        self.task, self.table, self.constant = task, table, constant
        self.settings = task.config.training
        self.model = self._network()
        self.model.optimizer.build(self.model.trainable_variables)
        self.optimizer_state = [variable.numpy() for variable in self.model.optimizer.variables]
        self.names = [tensor.name for tensor in self.model.inputs]

    def _network(self) -> Any:
        model = self._built()
        # Small steps take less than the calls between them.
        model.compile(optimizer=model.optimizer, loss=model.loss, steps_per_execution=50)
        return model

    def _built(self) -> Any:
        if self.table.transform is None:
            return digits_network(len(self.table.classes(self.task)))
        module = import_module(f"include.models.{self.task.config.name}.model")
        model = module.build_model(self.table.transform, self.settings.hyperparameters)
        is_shipped = self.task.config.data.label == load_config(self.task.config.name).data.label
        rate = self.settings.hyperparameters["learning_rate"]
        return model if is_shipped else number_network(model, self.constant, rate)

    def train(self, rows: Rows, labels: np.ndarray, seed: int) -> None:
        import keras

        keras.utils.set_random_seed(seed)
        self.model.set_weights(self._network().get_weights())
        for variable, value in zip(self.model.optimizer.variables, self.optimizer_state, strict=True):
            variable.assign(value)
        batch = self.settings.batch_size
        random, needed = np.random.default_rng(seed), self.settings.steps * batch
        order = np.concatenate([random.permutation(len(labels)) for _ in range(-(-needed // len(labels)))])[:needed]
        target = np.log1p(labels) if self.task.kind == "number" else labels
        inputs = {name: rows.features[name][order] for name in self.names}
        self.model.fit(inputs, target[order], batch_size=batch, shuffle=False, verbose=0)

    def answer(self, rows: Rows) -> np.ndarray:
        """Return the scores, as in Scored."""
        answers = self.model.predict({name: rows.features[name] for name in self.names}, batch_size=4096, verbose=0)
        if self.task.kind == "classes":
            return answers
        return np.expm1(answers[:, 0]) if self.task.kind == "number" else answers[:, 0]


def number_network(model: Any, constant: float, learning_rate: float) -> Any:
    """Return the hidden layers of `model` with a number label's output, which learns from the squared error."""
    import keras

    head = next(layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.Dense))
    last = keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(constant))
    changed = keras.Model(model.inputs, last(head.input))
    changed.compile(optimizer=keras.optimizers.Adam(learning_rate), loss="mean_squared_error")
    return changed


def digits_network(classes: int) -> Any:
    """Return a small network over the quarters of an image."""
    import keras

    inputs = {name: keras.Input((16,), name=name) for name in QUARTERS}
    hidden = keras.layers.Dense(64, activation="relu")(keras.layers.Concatenate()(list(inputs.values())))
    model = keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(hidden))
    model.compile(optimizer=keras.optimizers.Adam(0.003), loss="sparse_categorical_crossentropy")
    return model


def spec_of(task: Task, classes: list[str], labels: np.ndarray) -> LabelSpec:
    """Return the spec of a model that was trained on these labels, with its constant answer."""
    if task.kind == "classes":
        constant = (np.bincount(labels, minlength=len(classes)) / len(labels)).tolist()
    else:
        constant = [float((np.log1p(labels) if task.kind == "number" else labels).mean())]
    return LabelSpec.of(task.config.data.label, classes).model_copy(update={"constant": constant})
