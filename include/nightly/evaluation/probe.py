"""Load a SavedModel as TensorFlow Serving would, and ask it: python -m nightly.evaluation.probe

Runs in a clean process with TensorFlow alone, so that a model which needs this project's code, TFT's Python side or
the trainer's leftovers is found out. Its standard input is [MODEL, EXAMPLES, OUT] as JSON, read once TensorFlow is
imported. EXAMPLES is a TFRecord of raw tf.Example; what the model answered goes to OUT.
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
        tf.debugging.assert_all_finite(values, f"output {name} is not finite")
        tf.debugging.assert_near(values[:1], alone[name], rtol=1e-4, atol=1e-5)
        answers[name] = values.numpy().tolist()
    Path(out).write_text(json.dumps({"signatures": sorted(loaded.signatures), "answers": answers}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*json.load(sys.stdin)))
