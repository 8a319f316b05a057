"""Distributions of a night's values and of its control's, for the charts on the night's page."""

from typing import ClassVar

from nightly.records.base import Contract


class Distance(Contract):
    """The distance of two distributions, as TFDV measured it for a comparator of the schema."""

    value: float
    threshold: float
    norm: str  # L-infinity or Jensen-Shannon


class ValueShare(Contract):
    """A category's share of all examples of each side, including examples without a value."""

    value: str
    current: float
    control: float


class Histogram(Contract):
    """Histograms of both sides over the same bins. Bin i holds edges[i] <= x < edges[i + 1]; the last includes its end.

    The inner bins are equally wide. The two outer bins extend to the smallest and the largest value of both sides.
    """

    edges: list[float]
    current: list[float]  # each bin's share of all examples of the side
    control: list[float]


class Lengths(Contract):
    """How many values an example has, of the examples with any."""

    fewest: int
    mean: float
    most: int


class FeatureDistribution(Contract):
    """One feature's distribution: `values` of the most frequent categories, or a numeric feature's `histogram`.

    Shares are of the examples, and of the values where examples have several (`lengths_current`, `lengths_control`).
    """

    name: str
    type: str  # STRING, INT, FLOAT, BYTES
    missing_current: float | None  # share of the examples; None if the side lacks the feature, or there is no side
    missing_control: float | None
    drift: Distance | None = None
    skew: Distance | None = None
    distinct_current: int | None = None  # number of categories
    distinct_control: int | None = None
    lengths_current: Lengths | None = None  # None if no example of the side has more than one value
    lengths_control: Lengths | None = None
    values: list[ValueShare] = []
    histogram: Histogram | None = None


class Distributions(Contract):
    """In FILE: the train split of a night (current) and of the last accepted snapshot before it (control).

    In SERVING_FILE: requests to production (current) and training rows of the same days (control).
    """

    FILE: ClassVar = "distributions.json"  # in the night's folder
    SERVING_FILE: ClassVar = "serving_distributions.json"

    examples_current: int
    examples_control: int | None  # None if no snapshot was accepted before
    control: str  # the control in words: the snapshot accepted for …; "" if there is none
    features: list[FeatureDistribution]
