"""Export a trained model as a SavedModel with its transform, and with named inputs and outputs.

    signature        answers   inputs                outputs
    serving_default  Predict   examples: string [n]  probability: float [n, 1]
    raw_features     Predict   FEATURE, each         probability: float [n, 1]
    classify         Classify  inputs: string [n]    classes: string [n, 2], scores: float [n, 2]
    regress          Regress   inputs: string [n]    outputs: float [n]

Strings are serialized tf.Example. No signature needs the label. A feature that an example lacks is treated as in
training. `raw_features` requires every input; training/raw_features.py has their shapes, and what means missing.
"""

import logging

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow.python.saved_model import fingerprinting_utils  # no public API writes a fingerprint
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.saved.saved_transform_io_v2 import SavedModelLoader

from nightly.training.raw_features import (
    SERVING,
    raw_feature_specs,
    serving_features,
    transform_inputs,
    transform_specs,
)

log = logging.getLogger("nightly")

CLASSES = ["0", "1"]


class ExportError(ValueError):
    """The model cannot be served; the message names the change that it needs."""


def export(
    model: keras.Model,
    tf_transform_output: tft.TFTransformOutput,
    schema: schema_pb2.Schema,
    path: str,
) -> None:
    """Write `model`, a binary classifier with one output [batch, 1], as a SavedModel to `path`. Raises ExportError."""
    if model.output_shape != (None, 1):
        raise ExportError(
            f"the model's output is {model.output_shape}, not (None, 1): end it in Dense(1, activation='sigmoid'), or "
            "export it yourself in a run_fn in model.py"
        )
    served = Served(model, tf_transform_output, schema)
    strings = tf.TensorSpec([None], tf.string)
    signatures = {
        "serving_default": served.predict.get_concrete_function(strings),
        "raw_features": served.predict_raw.get_concrete_function(**raw_feature_specs(tf_transform_output, schema)),
        "classify": served.classify.get_concrete_function(strings),
        "regress": served.regress.get_concrete_function(strings),
    }
    tf.saved_model.save(served, path, signatures=signatures)
    _set_method_names(path, {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"})
    log.info("exported to %s with signatures %s", path, ", ".join(signatures))


class Served(tf.Module):
    """The transform and the model together. Only what serving needs is tracked, so no optimizer state is saved."""

    def __init__(self, model, tf_transform_output, schema):
        super().__init__()
        self._model = model.__call__  # a plain function: the model itself is not tracked,
        self._weights = [variable.value for variable in model.variables]  # its variables are
        self._inputs = [tensor.name for tensor in model.inputs]
        # The loader behind transform_features_layer(): a layer would be traced again when it is saved. It is already
        # a graph, so AutoGraph would only convert the code that loads it.
        loader = SavedModelLoader(tf_transform_output.transform_savedmodel_dir)
        self._tables = loader.__dict__  # tracked, because it holds the vocabularies
        self._transform = tf.autograph.experimental.do_not_convert(loader.apply_transform_model)
        raw = tf_transform_output.raw_feature_spec()
        self._spec = {name: raw[name] for name in serving_features(schema) if name in raw}
        # All signatures share one function, so it is traced, saved and loaded once, not four times.
        self._score = tf.function(self.score).get_concrete_function(transform_specs(self._spec))

    def score(self, raw: dict[str, tf.Tensor | tf.SparseTensor]) -> tf.Tensor:
        transformed = self._transform(raw)
        if missing := [name for name in self._inputs if name not in transformed]:
            raise ExportError(f"{missing} are made from features that are not in the schema's {SERVING} environment")
        return self._model({name: transformed[name] for name in self._inputs}, training=False)

    @tf.function
    def predict(self, examples):
        return {"probability": self._score(tf.io.parse_example(examples, self._spec))}

    @tf.function
    def predict_raw(self, **features):
        return {"probability": self._score(transform_inputs(features, self._spec))}

    @tf.function
    def classify(self, inputs):
        probability = self._score(tf.io.parse_example(inputs, self._spec))
        classes = tf.tile(tf.constant([CLASSES]), [tf.shape(probability)[0], 1])
        return {"classes": classes, "scores": tf.concat([1 - probability, probability], axis=1)}

    @tf.function
    def regress(self, inputs):
        return {"outputs": tf.squeeze(self._score(tf.io.parse_example(inputs, self._spec)), axis=1)}


def _set_method_names(path: str, names: dict[str, str]) -> None:
    """Set the method names that TensorFlow Serving requires for Classify and Regress; saving sets Predict's."""
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(path)
    for signature, name in names.items():
        updater.replace_method_name(signature, name, tags="serve")
    updater.save()
    fingerprinting_utils.write_fingerprint(path)  # it is a hash of saved_model.pb, which has just changed
