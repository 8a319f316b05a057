"""scikit-learn's handwritten digits as a source delivers them: an image, a vector, lists and a text for each."""

import datetime as dt
from functools import lru_cache

import tensorflow as tf
from sklearn.datasets import load_digits

DAYS = 28
SCHEMA = """
feature { name: "id" type: INT presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature {
  name: "photo" type: BYTES presence { min_fraction: 1 } value_count { min: 1 max: 1 }
  image_domain { minimum_supported_image_fraction: 1 }
  drift_comparator { infinity_norm { threshold: 0.2 } }
}
feature { name: "rows" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 8 } } }
feature { name: "bright" type: INT presence { min_fraction: 0.5 } value_count { min: 1 } }
feature { name: "strokes" type: BYTES presence { min_fraction: 1 } value_count { min: 1 max: 8 } }
feature { name: "story" type: BYTES natural_language_domain {} value_count { min: 1 max: 1 } }
feature { name: "even" type: INT not_in_environment: "SERVING" }
default_environment: "TRAINING"
default_environment: "SERVING"
"""


@lru_cache
def digits(count: int = 600) -> list[dict]:
    """The first digits: `photo` is a PNG of 8 x 8 pixels, `rows` the brightness of each row, `bright` the indices of
    the brightest pixels, `strokes` a word for each row with ink, `story` all words; `even` is the label."""
    data = load_digits()
    rows = []
    for number in range(count):
        image, digit = data.images[number], int(data.target[number])
        words = [f"{'thick' if row.sum() > 30 else 'thin'} at {int(row.argmax())}" for row in image if row.sum()]
        rows.append(
            {
                "id": number,
                "day": (dt.date(2016, 1, 1) + dt.timedelta(days=number % DAYS)).isoformat(),
                "photo": tf.io.encode_png((image[..., None] * 15).astype("uint8")).numpy(),
                "rows": [float(value) / 128 for value in image.sum(axis=1)],
                "bright": [int(index) for index in (image == 16).ravel().nonzero()[0]] or None,
                "strokes": words,
                "story": ", ".join(words),
                "even": int(digit % 2 == 0),
            }
        )
    return rows
