"""Load a SavedModel as TensorFlow Serving does, and predict with it: python -m nightly.evaluation.probe

It runs in a clean process with TensorFlow alone. So a model that needs this project's code, TFT's Python code or the
trainer's state fails here. It reads [MODEL, EXAMPLES, SIGNATURES] as JSON from standard input, after importing
TensorFlow. EXAMPLES is a TFRecord of raw tf.Example, which each of the signatures takes serialized. Only numbers are
checked; text follows from them.
"""

import json
import sys

import tensorflow as tf


def main(model: str, examples: str, signatures: list[str]) -> int:
    raw = [record.numpy() for record in tf.data.TFRecordDataset(examples)]
    loaded = tf.saved_model.load(model)
    for name in signatures:
        signature = loaded.signatures[name]
        (argument,) = signature.structured_input_signature[1]
        together = signature(**{argument: tf.constant(raw)})
        alone = signature(**{argument: tf.constant(raw[:1])})
        for output, values in together.items():
            if values.dtype == tf.string:
                continue
            tf.debugging.assert_all_finite(values, f"output {output} of {name} is not finite")
            tf.debugging.assert_near(values[:1], alone[output], rtol=1e-4, atol=1e-5)
    return 0


if __name__ == "__main__":
    sys.exit(main(*json.load(sys.stdin)))
