"""Tiny models of each kind of label, trained in this process on real rows: transform, run_fn, golden examples."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx_bsl.coders import example_coder

import include.models
from nightly.models import load_config
from nightly.training import run, transforming
from nightly.training.samples import add_samples
from nightly.transform.engine import Transformer, write_transform_graph
from tests.support.data import TAXI
from tests.support.trial_night import as_arrow, write

CONFIG = """
description = "A tiny model."
[source]
kind = "files"
path = "rows.csv"
[data]
time_column = "day"
id_columns = []
ignore = ["day"]
{weight}
[data.label]
{label}
"""

PREPROCESSING = '''
"""Every input is a number."""

import tensorflow as tf
import tensorflow_transform as tft

from nightly.training.transforming import dense


def preprocessing_fn(inputs):
    return {name: tft.scale_to_z_score(tf.cast(dense(column, 0), tf.float32)) for name, column in inputs.items()}
'''

MODEL = '''
"""A network whose last layer is by the kind of label."""

import keras

from nightly.training.inputs import keras_inputs


def build_model(tf_transform_output, hyperparameters, label):
    inputs = keras_inputs(tf_transform_output)
    hidden = keras.layers.Dense(16, activation="relu")(keras.layers.Concatenate()(list(inputs.values())))
    match label.kind:
        case "binary":
            last, loss = keras.layers.Dense(1, activation="sigmoid"), "binary_crossentropy"
        case "classes":
            last = keras.layers.Dense(len(label.classes), activation="softmax")
            loss = "sparse_categorical_crossentropy"
        case "number":
            last, loss = keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(label.constant[0])), "mse"
    model = keras.Model(inputs, last(hidden))
    model.compile(keras.optimizers.Adam(0.01), loss)
    return model
'''


def taxi_rows(number: int) -> list[dict[str, str]]:
    """Real trips, as text."""
    rows = pd.read_csv(TAXI, dtype=str, keep_default_na=False).tail(number)
    return rows.to_dict("records")


def digits() -> tuple[list[dict[str, str]], list[str]]:
    """scikit-learn's 1,797 handwritten digits, as text: the sums of 4 by 4 blocks of pixels, and the blocks' names."""
    bunch = pytest.importorskip("sklearn.datasets").load_digits()
    names = [f"block_{number}" for number in range(16)]
    sums = bunch.images.reshape(-1, 4, 2, 4, 2).sum(axis=(2, 4)).reshape(-1, 16)
    return [
        dict(zip(names, map(str, blocks), strict=True)) | {"digit": str(digit)}
        for blocks, digit in zip(sums, bunch.target, strict=True)
    ], names


def schema_text(label: str, features: list[str], weight: str = "") -> str:
    """The schema of float features and a label, given as the text of its feature."""
    outside = 'not_in_environment: "SERVING"'
    lines = [f'feature {{ name: "{name}" type: FLOAT presence {{ min_count: 1 }} }}' for name in features]
    lines.append(f"feature {{ {label} {outside} }}")
    if weight:
        lines.append(f'feature {{ name: "{weight}" type: FLOAT {outside} }}')
    return "\n".join([*lines, 'default_environment: "TRAINING"', 'default_environment: "SERVING"'])


class Workshop:
    """A folder of models beside the project's own."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self.folder = folder
        self.models = folder / "models"
        self.models.mkdir()
        patch.setattr(include.models, "__path__", [*include.models.__path__, str(self.models)])
        for module in (transforming, run):
            patch.setattr(module, "load_config", partial(load_config, models=self.models))

    def write(self, name: str, label: str, schema: str, weight: str = "", **files: str) -> None:
        """Write a model's folder. `files`: the texts of modules in place of PREPROCESSING and MODEL, and of others."""
        folder = self.models / name
        folder.mkdir()
        weight = f'weight_column = "{weight}"' if weight else ""
        (folder / "config.toml").write_text(CONFIG.format(label=label, weight=weight))
        (folder / "schema.pbtxt").write_text(schema)
        (folder / "__init__.py").touch()
        for module, text in {"preprocessing": PREPROCESSING, "model": MODEL, **files}.items():
            (folder / f"{module}.py").write_text(text)

    def transform(self, name: str, rows: list[dict[str, str]]) -> FnArgs:
        """Raw and transformed examples, a fifth of the rows to judge by, and what the Trainer would be given."""
        path = self.models / name / "schema.pbtxt"
        schema = text_format.Parse(path.read_text(), schema_pb2.Schema())
        folder = self.folder / name
        sides = {"train": rows[len(rows) // 5 :], "eval": rows[: len(rows) // 5]}
        encoder = example_coder.RecordBatchToExamplesEncoder()
        for side, part in sides.items():
            write(folder / f"raw/Split-{side}/data_tfrecord-00000-of-00001", encoder.encode(as_arrow(part, schema)))
        function = partial(transforming.preprocessing_fn, custom_config={"model": name, "schema": str(path)})
        metadata = tft.DatasetMetadata(schema)
        write_transform_graph(function, str(folder / "raw/Split-train"), metadata, folder / "graph")
        transformer = Transformer(folder / "graph")
        for side in sides:
            transformer.write(str(folder / f"raw/Split-{side}"), folder / f"transformed/Split-{side}/examples")
        return FnArgs(
            train_files=[str(folder / "transformed/Split-train/*")],
            eval_files=[str(folder / "transformed/Split-eval/*")],
            train_steps=150,
            schema_path=str(path),
            transform_graph_path=str(folder / "graph"),
            serving_model_dir=str(folder / "model"),
            custom_config={"model": name, "batch_size": 64},
        )

    def train(self, name: str, rows: list[dict[str, str]], **settings: Any) -> Path:
        """The exported model with its golden examples, as the infra validator leaves it. `settings`: the Trainer's."""
        fn_args = self.transform(name, rows)
        fn_args.custom_config |= settings
        run.run_fn(fn_args)
        add_samples(fn_args.serving_model_dir, str(self.folder / name / "raw/Split-eval/*"), name)
        return Path(fn_args.serving_model_dir)
