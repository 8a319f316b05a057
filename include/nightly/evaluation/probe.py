"""Load a SavedModel as TensorFlow Serving does, and predict with it: python -m nightly.evaluation.probe

It runs in a clean process with TensorFlow alone. So a model that needs this project's code, TFT's Python code or the
trainer's state fails here. It reads [MODEL, EXAMPLES, OUT] as JSON from standard input, after importing TensorFlow.
EXAMPLES is a TFRecord of raw tf.Example. The model's numeric outputs are written to OUT; text follows from them.
"""

import json
import sys
from pathlib import Path

import tensorflow as tf


def main(model: str, examples: str, out: str) -> int:
    raw = [record.numpy() for record in tf.data.TFRecordDataset(examples)]
    loaded = tf.saved_model.load(model)
    signature = loaded.signatures["serving_default"]
    (argument,) = signature.structured_input_signature[1]
    together = signature(**{argument: tf.constant(raw)})
    alone = signature(**{argument: tf.constant(raw[:1])})
    answers = {}
    for name, values in together.items():
        if values.dtype == tf.string:
            continue
        tf.debugging.assert_all_finite(values, f"output {name} is not finite")
        tf.debugging.assert_near(values[:1], alone[name], rtol=1e-4, atol=1e-5)
        answers[name] = values.numpy().tolist()
    Path(out).write_text(json.dumps({"signatures": sorted(loaded.signatures), "answers": answers}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*json.load(sys.stdin)))
