"""What the evaluator measured: metrics of the new model and of the one in production, on the same examples."""

from nightly.records.base import Contract

OVERALL = ""  # the slice of all examples


class Evaluation(Contract):
    """`candidate` and `production`: slice ("" or "feature=value") -> metric -> value."""

    examples: dict[str, int]  # slice -> number of examples
    candidate: dict[str, dict[str, float]]
    production: dict[str, dict[str, float]] | None  # None: there was no model in production
    production_version: int | None
