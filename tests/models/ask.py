"""Ask a SavedModel in every way it offers: python ask.py MODEL EXAMPLES_FOLDER LABEL POSITIVE_JSON; prints JSON."""

import base64
import json
import sys
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

model, folder, label, positive = sys.argv[1:]
proto = saved_model_pb2.SavedModel.FromString((Path(model) / "saved_model.pb").read_bytes())
methods = {
    name: signature.method_name
    for name, signature in proto.meta_graphs[0].signature_def.items()
    if not name.startswith("__")
}
loaded = tf.saved_model.load(model)
signatures = loaded.signatures
golden = json.loads((Path(model) / "assets.extra/golden.json").read_text())["examples"]
serialized = [base64.b64decode(example["example_base64"]) for example in golden]

columns = {}
for name, spec in signatures["raw_features"].structured_input_signature[1].items():
    missing = "" if spec.dtype == tf.string else float("nan") if spec.dtype.is_floating else tf.int64.min
    values = [example["features"][name] for example in golden]
    columns[name] = tf.constant([missing if value is None else value for value in values], spec.dtype)
classified = signatures["classify"](inputs=tf.constant(serialized))


def value_of(record: bytes):
    feature = tf.train.Example.FromString(record).features.feature[label]
    (value,) = getattr(feature, feature.WhichOneof("kind")).value or [None]
    return value.decode() if isinstance(value, bytes) else str(value)


def recorded(record: bytes) -> bool:
    return bool(tf.train.Example.FromString(record).features.feature[label].WhichOneof("kind"))


records = [
    r for r in tf.data.TFRecordDataset(list(map(str, Path(folder).iterdir()))).as_numpy_iterator() if recorded(r)
]
auc = tf.keras.metrics.AUC(num_thresholds=2000)
auc.update_state(
    [value_of(record) in json.loads(positive) for record in records],
    signatures["serving_default"](examples=tf.constant(records))["probability"][:, 0],
)
predict = lambda batch: signatures["serving_default"](examples=tf.constant(batch))["probability"][:, 0].numpy().tolist()  # noqa: E731
answers = {
    "methods": methods,
    "serving_default": predict(serialized),
    "alone": [predict([example])[0] for example in serialized],
    "raw_features": signatures["raw_features"](**columns)["probability"][:, 0].numpy().tolist(),
    "classify": classified["scores"][:, 1].numpy().tolist(),
    "classes": [[name.decode() for name in row] for row in classified["classes"].numpy().tolist()],
    "regress": signatures["regress"](inputs=tf.constant(serialized))["outputs"].numpy().tolist(),
    "of_nothing": predict([b""])[0],
    "auc": float(auc.result()),
}
print(json.dumps(answers))
