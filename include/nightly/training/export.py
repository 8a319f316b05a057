"""Export a trained model as a SavedModel with its transform, and with named inputs and outputs.

    signature        answers   inputs                outputs
    serving_default  Predict   examples: string [n]  see below
    raw_features     Predict   FEATURE, each         the same
    classify         Classify  inputs: string [n]    classes: string [n, classes], scores: float [n, classes]
    regress          Regress   inputs: string [n]    outputs: float [n]

    label    outputs of Predict                                           has
    binary   probability: float [n, 1]                                    classify ("0" and "1"), regress
    classes  probabilities: float [n, classes], class: string [n, 1]      classify
    number   prediction: float [n, 1], on the label's own scale           regress

Strings are serialized tf.Example. No signature needs the label. A feature that an example lacks is treated as in
training. `raw_features` requires every input; training/raw_features.py has their shapes, and what means missing.
assets.extra/label.json is the LabelSpec, which says what the outputs mean.
"""

import logging
from pathlib import Path

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow.python.saved_model import fingerprinting_utils  # no public API writes a fingerprint
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.saved.saved_transform_io_v2 import SavedModelLoader

from nightly.records.label_spec import LABEL_SPEC, LabelSpec
from nightly.training.answers import Answers, ExportError, answers_of, check
from nightly.training.raw_features import (
    SERVING,
    raw_feature_specs,
    serving_features,
    transform_inputs,
    transform_specs,
)

log = logging.getLogger("nightly")

METHODS = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}


def export(
    model: keras.Model,
    tf_transform_output: tft.TFTransformOutput,
    schema: schema_pb2.Schema,
    path: str,
    label: LabelSpec | None = None,
    sample: dict[str, tf.Tensor] | None = None,
) -> None:
    """Write `model`, whose only output is [batch, 1] or [batch, classes], as a SavedModel to `path`.

    Raises ExportError.

    :param label: what the model predicts; None: a binary label, without a label.json
    :param sample: transformed rows to try the model on before
    """
    answers = answers_of(label)
    check(model, answers, sample)
    served = Served(model, tf_transform_output, schema, answers)
    strings = tf.TensorSpec([None], tf.string)
    signatures = {
        "serving_default": served.predict.get_concrete_function(strings),
        "raw_features": served.predict_raw.get_concrete_function(**raw_feature_specs(tf_transform_output, schema)),
    }
    methods = {name: method for name, method in METHODS.items() if hasattr(answers, name)}
    signatures |= {name: getattr(served, name).get_concrete_function(strings) for name in methods}
    tf.saved_model.save(served, path, signatures=signatures)
    _set_method_names(path, methods)
    if label is not None:
        (Path(path) / LABEL_SPEC).parent.mkdir(exist_ok=True)
        label.save(Path(path) / LABEL_SPEC)
    log.info("exported to %s with signatures %s", path, ", ".join(signatures))


class Served(tf.Module):
    """The transform and the model together. Only what serving needs is tracked, so no optimizer state is saved."""

    def __init__(
        self,
        model: keras.Model,
        tf_transform_output: tft.TFTransformOutput,
        schema: schema_pb2.Schema,
        answers: Answers,
    ):
        super().__init__()
        self._answers = answers
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
        output = self._model({name: transformed[name] for name in self._inputs}, training=False)
        return tf.cast(output, tf.float32)  # Classify and Regress take no other type, such as float16

    @tf.function
    def predict(self, examples):
        return self._answers.predict(self._score(tf.io.parse_example(examples, self._spec)))

    @tf.function
    def predict_raw(self, **features):
        return self._answers.predict(self._score(transform_inputs(features, self._spec)))

    @tf.function
    def classify(self, inputs):
        return self._answers.classify(self._score(tf.io.parse_example(inputs, self._spec)))

    @tf.function
    def regress(self, inputs):
        return self._answers.regress(self._score(tf.io.parse_example(inputs, self._spec)))


def _set_method_names(path: str, names: dict[str, str]) -> None:
    """Set the method names that TensorFlow Serving requires for Classify and Regress; saving sets Predict's."""
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(path)
    for signature, name in names.items():
        updater.replace_method_name(signature, name, tags="serve")
    updater.save()
    fingerprinting_utils.write_fingerprint(path)  # it is a hash of saved_model.pb, which has just changed
