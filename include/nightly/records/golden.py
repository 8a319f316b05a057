"""What a released model must answer: examples, and the predictions its own files made of them offline."""

from nightly.records.base import Contract

GOLDEN = "assets.extra/golden.json"  # inside a SavedModel; TensorFlow Serving leaves the folder alone


class GoldenExample(Contract):
    example_base64: str  # a serialized tf.Example without the label, as clients send it to `serving_default`
    features: dict[str, int | float | str | None]  # the same as one value a feature; None is missing
    probability: float


class Golden(Contract):
    model: str
    signature: str = "serving_default"
    output: str = "probability"
    tolerance: float = 1e-5  # absolute; other batch sizes and CPUs sum in another order
    examples: list[GoldenExample]
