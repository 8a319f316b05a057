"""The run_fn of TFX's Trainer for every model: read transformed examples, train, evaluate, export.

    Trainer(run_fn="nightly.training.run.run_fn",
            custom_config={"model": "taxi", "hyperparameters": {...}, "batch_size": 256}, …)

A model's `build_model(tf_transform_output, hyperparameters)` can have a third parameter, which gets the LabelSpec: its
classes, and what one answer for all rows would be. A model can also define its own `run_fn(fn_args)` in model.py, and
call the functions of this module.
"""

import inspect
import logging
import math
import time
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

import keras
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.trainer.fn_args_utils import FnArgs

from nightly.io.hints import did_you_mean
from nightly.models import load_config
from nightly.records.base import Contract
from nightly.records.data_config import Data
from nightly.records.label_spec import LabelSpec
from nightly.training.answers import answers_of, check
from nightly.training.devices import refuse_own_steps, strategy_of
from nightly.training.errors import TrainingError
from nightly.training.export import export
from nightly.training.inputs import evaluation_batches, training_batches
from nightly.training.labels import classes_of, label_spec

log = logging.getLogger("nightly")

STEPS_PER_EXECUTION = 10  # steps in one call of TensorFlow; Keras's Python loop has a cost per call
SAMPLE = 64  # transformed rows on which the model is tried before the export


class Settings(Contract):
    """The Trainer's custom_config."""

    model: str
    hyperparameters: dict[str, int | float | str | bool] = {}
    batch_size: int = 512
    gpus: int | Literal["all"] = 1  # which train together
    seed: int = 0  # of the weights and the row order, so that a snapshot always trains the same model


def run_fn(fn_args: FnArgs) -> None:
    """Train for fn_args.train_steps steps, and export to fn_args.serving_model_dir.

    Raises TrainingError, NoRowsError, ExportError, and ModelError for a label without two classes.
    """
    settings = Settings.parse(fn_args.custom_config or {}, where="the Trainer's custom_config")
    module = import_module(f"include.models.{settings.model}.model")
    tf_transform_output = tft.TFTransformOutput(fn_args.transform_graph_path)
    data = load_config(settings.model).data
    schema = _schema_of_requests(fn_args.schema_path, data)
    classes = classes_of(data.label, Path(fn_args.schema_path), tf_transform_output)
    label = label_spec(data.label, classes, fn_args.train_files, tf_transform_output)

    keras.utils.set_random_seed(settings.seed)
    tuned = (fn_args.hyperparameters or {}).get("values", {})
    hyperparameters = Hyperparameters(settings.hyperparameters | tuned, fn_args.train_steps or 0)
    with strategy_of(settings.gpus, settings.batch_size).scope():
        model = _built(module, tf_transform_output, hyperparameters, label)
    refuse_own_steps(model, module.__file__)
    hyperparameters.refuse_unread(module.__file__)
    check(model, answers_of(label))  # refuse a wrong last layer before hours of training
    log.info("model %s: %s parameters, %s", settings.model, f"{model.count_params():,}", dict(hyperparameters))

    train(model, fn_args, tf_transform_output, settings)
    features, *_ = next(iter(evaluation_batches(fn_args.eval_files, tf_transform_output, SAMPLE)))
    export(model, tf_transform_output, schema, fn_args.serving_model_dir, label, features)


def _built(
    module: ModuleType, tf_transform_output: tft.TFTransformOutput, hyperparameters: dict, label: LabelSpec
) -> keras.Model:
    """Return the compiled model of the module's build_model."""
    takes_label = len(inspect.signature(module.build_model).parameters) > 2
    return module.build_model(tf_transform_output, hyperparameters, *([label] if takes_label else []))


def _schema_of_requests(path: str, data: Data) -> schema_pb2.Schema:
    """Read the schema, without label and weight: no request has them, whatever their environments are."""
    schema = text_format.Parse(tf.io.gfile.GFile(path).read(), schema_pb2.Schema())
    features = [feature for feature in schema.feature if feature.name not in (data.label.column, data.weight_column)]
    del schema.feature[:]
    schema.feature.extend(features)
    return schema


def train(model: keras.Model, fn_args: FnArgs, tf_transform_output: tft.TFTransformOutput, settings: Settings) -> None:
    """Fit the compiled model, and log its metrics on the eval split at the end. Both are weighted if the rows are."""
    steps, size = fn_args.train_steps, settings.batch_size
    if not steps:
        raise TrainingError("train_args.num_steps is 0 or missing: give the number of training steps")
    train_rows = training_batches(fn_args.train_files, tf_transform_output, size, settings.seed)
    eval_rows = evaluation_batches(fn_args.eval_files, tf_transform_output, size)

    log.info("training %s steps of %s rows", steps, size)
    fit(model, train_rows, steps, [Progress(steps, size)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")  # Keras finds the end this way
        metrics = model.evaluate(eval_rows.take(fn_args.eval_steps or -1), verbose=0, return_dict=True)
    log.info("on the eval split: %s", _line(metrics))
    if not math.isfinite(metrics["loss"]):
        raise TrainingError(f"the loss on the eval split is {metrics['loss']}: the model predicts no finite number")


def fit(model: keras.Model, rows: tf.data.Dataset, steps: int, callbacks: list[keras.callbacks.Callback]) -> None:
    """Train for exactly `steps` steps, several per call of TensorFlow unless the model's compile() sets the number."""
    if model.distribute_strategy.num_replicas_in_sync > 1:
        model.steps_per_execution = 1  # TensorFlow fails in Keras's loop of several distributed steps
    elif model.steps_per_execution == 1:
        model.steps_per_execution = max(1, min(STEPS_PER_EXECUTION, steps // 10))  # progress is logged ten times
    # steps_per_epoch would be rounded up to whole executions.
    counted = rows.take(steps).apply(tf.data.experimental.assert_cardinality(steps))
    model.fit(counted, shuffle=False, verbose=0, callbacks=callbacks)


class Progress(keras.callbacks.Callback):
    """Log progress ten times. Raise TrainingError when the loss is no longer finite."""

    def __init__(self, steps: int, batch_size: int):
        super().__init__()
        self.steps, self.batch_size, self.tenths = steps, batch_size, 0

    def on_train_begin(self, logs=None):
        self.began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        step = min(batch + 1, self.steps)  # Keras counts a full last execution, even if it was shorter
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"the loss is {logs['loss']} at step {step} of {self.steps}: lower the learning rate, or look for "
                "values that preprocessing_fn does not scale"
            )
        if step * 10 // self.steps > self.tenths:
            self.tenths = step * 10 // self.steps
            speed = step * self.batch_size / (time.monotonic() - self.began)
            log.info("step %s of %s: %s (%s rows/s)", step, self.steps, _line(logs), f"{speed:,.0f}")


class Hyperparameters(dict):
    """The config's hyperparameters, which track their reads so that a misspelt one is reported.

    :param steps: how long the model trains, for a learning rate that falls until then
    """

    def __init__(self, values: dict, steps: int = 0):
        super().__init__(values)
        self.steps = steps
        self.read: set[str] = set()

    def __getitem__(self, name):
        self.read.add(name)
        if name not in self:
            raise TrainingError(f"hyperparameter {name!r} is missing: add it under [training.hyperparameters]")
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.read.add(name)
        return super().get(name, default)

    def refuse_unread(self, where: str) -> None:
        """Raise TrainingError for a hyperparameter that the code in `where` has not read."""
        for name in self.keys() - self.read:
            raise TrainingError(f"hyperparameter {name!r} is not read by {where}" + did_you_mean(name, list(self.read)))


def _line(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
