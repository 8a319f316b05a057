"""Real requests inside a SavedModel: warm-up records for TensorFlow Serving, golden predictions for the release.

TensorFlow Serving replays assets.extra/tf_serving_warmup_requests before a version becomes AVAILABLE, so the first
client does not wait for the graph's first run. assets.extra/golden.json is a nightly.records.golden.Golden: predictions
that a release must reproduce.
"""

import base64
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2, prediction_log_pb2, regression_pb2

from nightly.records.golden import GOLDEN, Api, Golden, GoldenExample
from nightly.records.label_spec import LABEL_SPEC, OUTPUTS, LabelSpec
from nightly.training.answers import ExportError
from nightly.training.inputs import NoRowsError
from nightly.training.raw_features import json_value, request_part, request_tensor

log = logging.getLogger("nightly")

WARM_UP = "assets.extra/tf_serving_warmup_requests"
ROWS = 16  # golden examples, and the larger of the two warm-up batches
OUTPUTS_OF: dict[Api, set[str]] = {"classify": {"classes", "scores"}, "regress": {"outputs"}}

Signature = tf.types.experimental.ConcreteFunction


def apis_of(signatures: Mapping[str, Signature]) -> list[Api]:
    """Return which APIs besides Predict a SavedModel has: their signatures have the inputs and outputs that they take.

    TensorFlow Serving does not look at the method name by default.
    """
    return [
        api
        for api, outputs in OUTPUTS_OF.items()
        if api in signatures
        and {name: spec.dtype for name, spec in _inputs(signatures[api]).items()} == {"inputs": tf.string}
        and signatures[api].structured_outputs.keys() <= outputs
    ]


def add_samples(path: str, raw_examples: str, model: str) -> Golden:
    """Write both files into the SavedModel at `path`, from the first rows of the file pattern `raw_examples`.

    Return the golden predictions. They come from the SavedModel on disk, not from the model in memory. Raises
    NoRowsError and ExportError.
    """
    signatures = tf.saved_model.load(path).signatures
    if missing := sorted({"serving_default", "raw_features"} - set(signatures)):
        raise ExportError(
            f"the exported model has no signature {' and no '.join(missing)}: export it as "
            "nightly.training.export.export does"
        )
    features = _inputs(signatures["raw_features"])
    examples = [request_part(record, features) for record in _first_records(raw_examples)]
    serialized = [example.SerializeToString() for example in examples]
    outputs = _numbers(signatures["serving_default"](examples=tf.constant(serialized)))
    judged = _judged_output(Path(path), outputs)
    apis = apis_of(signatures)
    answers = {api: _numbers(signatures[api](inputs=tf.constant(serialized))) for api in apis}

    golden = Golden(
        model=model,
        output=judged,
        examples=[
            GoldenExample(
                example_base64=base64.b64encode(text).decode(),
                features={name: json_value(example, name, features[name]) for name in sorted(features)},
                outputs={name: values[row].tolist() for name, values in outputs.items()},
                answers={api: values[row].tolist() for api, numbers in answers.items() for values in numbers.values()},
            )
            for row, (text, example) in enumerate(zip(serialized, examples, strict=True))
        ],
    )
    golden.save(Path(path) / GOLDEN)
    with tf.io.TFRecordWriter(str(Path(path) / WARM_UP)) as writer:
        for request in _warm_up(examples, features, model, apis):
            writer.write(request.SerializeToString())
    lowest, highest = outputs[judged].min(), outputs[judged].max()
    log.info("%d golden examples, predictions %.4f to %.4f", len(examples), lowest, highest)
    return golden


def _inputs(signature: Signature) -> dict[str, tf.TensorSpec]:
    return signature.structured_input_signature[1]


def _numbers(outputs: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """Return the outputs that are numbers, [rows, k] each. Text follows from them and is not compared."""
    arrays = {name: values.numpy() for name, values in outputs.items() if values.dtype != tf.string}
    return {name: values.reshape(len(values), -1) for name, values in arrays.items()}


def _judged_output(path: Path, outputs: dict[str, np.ndarray]) -> str:
    """Return the output that the model is judged by. Raises ExportError if the model does not have it."""
    spec = path / LABEL_SPEC
    name = LabelSpec.load(spec).output if spec.exists() else OUTPUTS["binary"]
    if name not in outputs:
        raise ExportError(
            f"serving_default has the outputs {', '.join(outputs)}, and not {name!r}, by which the model is judged: "
            "name the output so in run_fn"
        )
    return name


def _warm_up(
    examples: list[tf.train.Example], features: dict[str, tf.TensorSpec], model: str, apis: list[Api]
) -> Iterator[prediction_log_pb2.PredictionLog]:
    """Yield a single request and a batch for each signature that clients ask."""
    for batch in (examples[:1], examples):
        serialized = [example.SerializeToString() for example in batch]
        yield _predict(model, "serving_default", {"examples": tf.make_tensor_proto(serialized, tf.string)})
        columns = {
            name: tf.make_tensor_proto(request_tensor(batch, name, spec), spec.dtype) for name, spec in features.items()
        }
        yield _predict(model, "raw_features", columns)
        for signature, kind, request in (
            ("classify", "classify_log", classification_pb2.ClassificationRequest()),
            ("regress", "regress_log", regression_pb2.RegressionRequest()),
        ):
            if signature not in apis:
                continue
            request.model_spec.name, request.model_spec.signature_name = model, signature
            request.input.example_list.examples.extend(batch)
            record = prediction_log_pb2.PredictionLog()
            getattr(record, kind).request.CopyFrom(request)
            yield record


def _predict(model: str, signature: str, inputs: dict) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, tensor in inputs.items():
        request.inputs[name].CopyFrom(tensor)
    record = prediction_log_pb2.PredictionLog()
    record.predict_log.request.CopyFrom(request)
    return record


def _first_records(pattern: str) -> list[bytes]:
    paths = sorted(tf.io.gfile.glob(pattern))
    compression = "GZIP" if paths and paths[0].endswith(".gz") else ""
    records = list(tf.data.TFRecordDataset(paths, compression).take(ROWS).as_numpy_iterator()) if paths else []
    if not records:
        raise NoRowsError(f"no example in {pattern}: nothing to make warm-up and golden predictions of")
    return records
