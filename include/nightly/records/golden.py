"""Golden predictions: examples and the exported model's offline predictions, which a model server must reproduce."""

from nightly.records.base import Contract

GOLDEN = "assets.extra/golden.json"  # inside a SavedModel; TensorFlow Serving ignores the folder


class GoldenExample(Contract):
    example_base64: str  # a serialized tf.Example without the label, as clients send it to `serving_default`
    features: dict[str, int | float | str | None]  # the same example as feature -> value; None is missing
    probability: float


class Golden(Contract):
    model: str
    signature: str = "serving_default"
    output: str = "probability"
    tolerance: float = 1e-5  # absolute; the order of summation depends on batch size and CPU
    examples: list[GoldenExample]
