"""Convert raw trips to the network's inputs, in training and, inside the SavedModel, in serving."""

import tensorflow as tf
import tensorflow_transform as tft

from nightly.training.transforming import dense

from .features import COMPANY, MILES_A_DEGREE, NUMBERS, RARE


def preprocessing_fn(inputs):
    """Encode the sparse columns [batch, 0 or 1 value] as dense ones [batch, 1]: words, places, times and distances."""
    outputs = {name: tf.clip_by_value(dense(inputs[name], 0), 0, highest) for name, highest in NUMBERS.items()}
    outputs[COMPANY] = tft.compute_and_apply_vocabulary(
        dense(inputs[COMPANY], ""), frequency_threshold=RARE, num_oov_buckets=1, vocab_filename=COMPANY
    )
    east, north = miles(inputs, "longitude"), miles(inputs, "latitude")
    outputs["miles_east"] = tft.scale_to_z_score(east)
    outputs["miles_north"] = tft.scale_to_z_score(north)
    outputs["log_miles"] = tft.scale_to_z_score(tf.math.log1p(tf.abs(east) + tf.abs(north)))  # streets form a grid
    return outputs


def miles(inputs, axis: str) -> tf.Tensor:
    """Return float32 [batch, 1]: how far the destination is along an axis; 0 if an end is not known."""
    nowhere = float("nan")
    degrees = dense(inputs[f"dropoff_{axis}"], nowhere) - dense(inputs[f"pickup_{axis}"], nowhere)
    return tf.where(tf.math.is_nan(degrees), 0.0, degrees * MILES_A_DEGREE[axis])
