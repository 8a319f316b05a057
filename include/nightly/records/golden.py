"""Golden predictions: examples and the exported model's offline predictions, which a model server must reproduce."""

from typing import Any

from pydantic import model_validator

from nightly.records.base import Contract

GOLDEN = "assets.extra/golden.json"  # inside a SavedModel; TensorFlow Serving ignores the folder


class GoldenExample(Contract):
    example_base64: str  # a serialized tf.Example without the label, as clients send it to `serving_default`
    features: dict[str, Any]  # the same example as feature -> value, as `raw_features` takes it; None is missing
    outputs: dict[str, list[float]]  # output -> the row's numbers

    @model_validator(mode="before")
    @classmethod
    def _probability_is_an_output(cls, data: Any) -> Any:
        """Read the golden examples of older versions, which are all of binary models."""
        if isinstance(data, dict) and "probability" in data:
            data = {**data, "outputs": {"probability": [data["probability"]]}}
            del data["probability"]
        return data


class Golden(Contract):
    model: str
    signature: str = "serving_default"
    output: str = "probability"  # the output that is judged
    tolerance: float = 1e-5  # absolute; the order of summation depends on batch size and CPU
    examples: list[GoldenExample]
