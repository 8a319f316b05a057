"""Golden predictions: examples and the exported model's offline predictions, which a model server must reproduce."""

import math
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import model_validator

from nightly.records.base import Contract

GOLDEN = "assets.extra/golden.json"  # inside a SavedModel; TensorFlow Serving ignores the folder

Api = Literal["classify", "regress"]  # of TensorFlow Serving; the signature that it asks has the same name


class GoldenExample(Contract):
    example_base64: str  # a serialized tf.Example without the label, as clients send it to `serving_default`
    features: dict[str, Any]  # the same example as feature -> value, as `raw_features` takes it; None is missing
    outputs: dict[str, list[float]]  # output of Golden.signature -> the row's numbers
    # The row's scores, or its number, by the signatures of that name. A model may lack them, and so do older versions.
    answers: dict[Api, list[float]] = {}

    @model_validator(mode="before")
    @classmethod
    def _probability_is_an_output(cls, data: Any) -> Any:
        """Read the golden examples of older versions, which are all of binary models."""
        if isinstance(data, dict) and "probability" in data:
            data = {**data, "outputs": {"probability": [data["probability"]]}}
            del data["probability"]
        return data

    def difference(self, answer: Any, api: Api | None = None) -> float:
        """Return the largest difference of a served row from what is expected: absolute up to 1, relative beyond.

        NaN if any number is NaN. Raises ValueError if the row lacks an output, or has not as many numbers.

        :param answer: the row's value, or a dict by output if the model has several
        :param api: that answered; None for Predict
        """
        differences = []
        for output, expected in ({api: self.answers[api]} if api else self.outputs).items():
            actual = list(_numbers(answer.get(output) if isinstance(answer, dict) else answer))
            if len(actual) != len(expected):
                raise ValueError(f"the golden output {output!r} has {len(expected)} numbers a row, and not {answer!r}")
            # float32 has seven digits: of a large number an absolute difference says nothing.
            differences += [abs(a - e) / max(1.0, abs(e)) for a, e in zip(actual, expected, strict=True)]
        return math.nan if any(map(math.isnan, differences)) else max(differences)


class Golden(Contract):
    model: str
    signature: str = "serving_default"
    output: str = "probability"  # the output that is judged
    tolerance: float = 1e-5  # of GoldenExample.difference; the order of summation depends on batch size and CPU
    examples: list[GoldenExample]

    @property
    def apis(self) -> list[Api]:
        """The APIs besides Predict that each example has an answer of."""
        return list(self.examples[0].answers)

    @property
    def signatures(self) -> list[str]:
        """The signatures that the examples are golden for."""
        return [self.signature, *self.apis]


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers of nested lists or tuples; a text or None has none."""
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(inner)
    elif isinstance(value, int | float):
        yield value
