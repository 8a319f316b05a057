"""How a night's values are distributed, beside those of the snapshot it is compared with: what the page draws."""

from nightly.records.base import Contract

FILE = "distributions.json"  # in the night's folder
SERVING_FILE = "serving_distributions.json"  # the same of logged requests and the training rows of the same days


class Distance(Contract):
    """How far apart two distributions are, as TFDV measured it for a comparator of the schema."""

    value: float
    threshold: float
    norm: str  # L-infinity or Jensen-Shannon


class ValueShare(Contract):
    """A category's share of all examples of a side, the missing ones included; 0 where the side has none of it."""

    value: str
    current: float
    control: float


class Histogram(Contract):
    """The same bins for both sides. Bin i holds edges[i] <= x < edges[i + 1], the last one its upper edge too.

    The inner bins are equally wide; the two outer ones reach to the least and the greatest value there is.
    """

    edges: list[float]
    current: list[float]  # share of all examples of the side, a bin
    control: list[float]


class FeatureDistribution(Contract):
    """One feature. `values` are the most frequent categories of both sides; a numeric feature has a histogram."""

    name: str
    type: str  # STRING, INT, FLOAT, BYTES
    missing_current: float | None  # share of the examples; None: the side has no such feature, or there is no side
    missing_control: float | None
    drift: Distance | None = None
    skew: Distance | None = None
    distinct_current: int | None = None  # categories
    distinct_control: int | None = None
    values: list[ValueShare] = []
    histogram: Histogram | None = None


class Distributions(Contract):
    """The train split of a night (current) and of the last accepted snapshot before it (control); or, in SERVING_FILE,
    requests to production (current) and training rows (control)."""

    examples_current: int
    examples_control: int | None  # None: no snapshot had been accepted before
    control: str  # what it is: the snapshot accepted for …; "" where there is none
    features: list[FeatureDistribution]
