"""The evaluator's result: metrics of the new model and of the model in production, on the same examples."""

from typing import ClassVar

from nightly.records.base import Contract

OVERALL = ""  # the slice of all examples


class Difference(Contract):
    """A difference of two values of a metric on the same examples, with its standard error."""

    value: float
    error: float  # paired by example
    examples: int
    freedom: float | None = None  # of the error, for Student's t; None is examples - 1


class NotFinite(Contract):
    """Examples that a model answers with NaN or an infinite number."""

    examples: int
    first: str  # the columns that identify one of them; "" if not known

    def describe(self, examples: int) -> str:
        """Return what the model does, as the end of a sentence.

        :param examples: the number of all examples
        """
        first = f", such as that with {self.first}" if self.first else ""
        return f"answers {self.examples:,} of {examples:,} examples with NaN or an infinite number{first}"


class CalibrationBin(Contract):
    """A tenth of the examples by prediction, or of their weight."""

    rows: int
    predicted: float  # mean
    actual: float  # mean


class Histogram(Contract):
    edges: list[float]  # one more than rows
    rows: list[float]  # in each bin, or their weight


class Charts(Contract):
    """What the page draws of one model, over all examples. What the label's kind does not have is empty."""

    weighted: bool = False  # whether examples count by their weight; in older versions each counted 1
    calibration: list[CalibrationBin] = []  # binary and number
    classes: list[str] = []  # rows and columns of `confusion`: the most frequent, the others together
    # binary and classes: examples, or their weight, by actual (rows) and predicted (columns) class
    confusion: list[list[float]] = []
    threshold: float | None = None  # binary: the probability above which an example is predicted to be positive
    residuals: Histogram | None = None  # number: prediction - label


class Evaluation(Contract):
    """`candidate` and `production`: slice ("" or "feature=value") -> metric -> value.

    A metric of one class is named METRIC:CLASS. A further output of a model would be named OUTPUT/METRIC.
    """

    FILE: ClassVar = "evaluation.json"  # in the evaluator's artifact, and in the night's folder

    examples: dict[str, int]  # slice -> number of examples
    candidate: dict[str, dict[str, float]]
    production: dict[str, dict[str, float]] | None  # None if no model was in production, or it was not measured
    production_version: int | None
    # slice -> metric -> the candidate's value minus production's; metrics whose error is not known are missing
    differences: dict[str, dict[str, Difference]] = {}
    # the loss of the best constant answer minus the candidate's, overall; None if the model does not name its constant,
    # or if the examples are too few for a standard error
    better_than_constant: Difference | None = None
    constant_loss: str = ""  # the name of that loss, for a message; "" if the model does not name its constant
    charts: dict[str, Charts] = {}  # candidate and production
    class_examples: dict[str, int] = {}  # class -> number of examples with this label
    unmeasured: str = ""  # why the model in production was not measured, although there is one
    not_finite: NotFinite | None = None  # set if the candidate has such answers: then it has no metrics
