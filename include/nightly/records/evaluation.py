"""The evaluator's result: metrics of the new model and of the model in production, on the same examples."""

from nightly.records.base import Contract

OVERALL = ""  # the slice of all examples


class Evaluation(Contract):
    """`candidate` and `production`: slice ("" or "feature=value") -> metric -> value."""

    examples: dict[str, int]  # slice -> number of examples
    candidate: dict[str, dict[str, float]]
    production: dict[str, dict[str, float]] | None  # None if no model was in production
    production_version: int | None
