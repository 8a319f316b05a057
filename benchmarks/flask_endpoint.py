"""Serves a model by a plain Flask endpoint: python -m benchmarks.flask_endpoint FOLDER PORT"""

import sys

import tensorflow as tf
from flask import Flask, jsonify, request

app = Flask(__name__)
model = tf.saved_model.load(sys.argv[1])
predict = model.signatures["raw_features"]


@app.post("/predict")
def predictions():
    rows = request.get_json()["instances"]
    columns = {name: tf.constant([row[name] for row in rows], spec.dtype) for name, spec in specs().items()}
    return jsonify(predictions=predict(**columns)["probability"].numpy().tolist())


def specs() -> dict[str, tf.TensorSpec]:
    return predict.structured_input_signature[1]


if __name__ == "__main__":
    app.run(port=int(sys.argv[2]), threaded=True)
