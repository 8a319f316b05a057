"""What the page draws is what the rows hold: shares counted by hand against those made of TFDV's statistics."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nightly.records.distributions import Distributions
from nightly.statistics.distributions import build_distributions
from nightly.statistics.measure import statistics_of


def statistics(frame: pd.DataFrame):
    columns = {name: pa.array([None if pd.isna(value) else [value] for value in frame[name]]) for name in frame.columns}
    return statistics_of(iter([pa.RecordBatch.from_pydict(columns)]))


@pytest.fixture(scope="module")
def frames():
    random = np.random.default_rng(7)
    return [
        pd.DataFrame(
            {
                "fare": np.append(random.gamma(3, scale, 999), 5000.0),  # one absurd value, as taximeters have
                "day": random.integers(1, 8, 1000),
                "pays": random.choice(["cash", "card"], 1000, p=[cash, 1 - cash]),
                "some": [None] * 400 + [1.5] * 600,
                name: random.random(1000),
            }
        )
        for scale, cash, name in ((4, 0.5, "new"), (5, 0.8, "old"))
    ]


@pytest.fixture(scope="module")
def features(frames):
    made = build_distributions(statistics(frames[0]), statistics(frames[1]), control="the last accepted snapshot")
    assert Distributions.parse(made.model_dump_json(), where="its own JSON") == made
    return {feature.name: feature for feature in made.features}


def test_shares_of_categories_are_exact(features, frames):
    shares = {value.value: (value.current, value.control) for value in features["pays"].values}
    for value in ("cash", "card"):
        assert shares[value] == pytest.approx([(frame["pays"] == value).mean() for frame in frames])


def test_there_is_a_bin_for_each_whole_number(features, frames):
    histogram = features["day"].histogram
    assert histogram.edges == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    for shares, frame in zip((histogram.current, histogram.control), frames, strict=True):
        assert shares == pytest.approx(
            [(frame["day"] == day).mean() for day in range(1, 8)], abs=0.005
        )  # TFDV's own are that near


def test_common_bins_are_near_the_true_ones_and_one_absurd_value_does_not_squeeze_them(features, frames):
    histogram = features["fare"].histogram
    assert histogram.edges[-1] == 5000 and histogram.edges[-2] < 50
    for shares, frame in zip((histogram.current, histogram.control), frames, strict=True):
        true = np.histogram(frame["fare"], histogram.edges)[0] / len(frame)
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        assert np.abs(np.array(shares) - true).max() < 0.06  # TFDV keeps ten quantiles; between them it is a guess


def test_what_is_missing_is_a_share_and_what_one_side_lacks_is_none(features):
    assert features["some"].missing_current == pytest.approx(0.4)
    assert sum(features["some"].histogram.current) == pytest.approx(0.6)
    assert features["new"].missing_control is None and features["new"].missing_current == 0
    assert features["old"].missing_current is None and sum(features["old"].histogram.current) == 0


def test_without_a_control_there_is_only_the_night(frames):
    alone = build_distributions(statistics(frames[0]), None)
    assert alone.examples_control is None and alone.control == ""
    assert all(feature.missing_control is None for feature in alone.features)
    assert next(f for f in alone.features if f.name == "fare").histogram.current


def test_no_rows_and_empty_columns_are_no_error(frames):
    empty = statistics(frames[0].head(0))
    assert build_distributions(empty, statistics(frames[1])).examples_current == 0
    nothing = build_distributions(statistics(pd.DataFrame({"x": [None, None]})), None).features[0]
    assert nothing.missing_current == 1 and not nothing.values and nothing.histogram is None


def test_of_lists_the_lengths_are_known_and_the_shares_are_of_values():
    words = pa.array([["a", "b", "a"], ["a"], None, ["c", "a"]])
    single = pa.array([["a"], ["b"], None, ["a"]])
    made = [statistics_of(iter([pa.RecordBatch.from_pydict({"words": column})])) for column in (words, single)]
    [feature] = build_distributions(*made, control="the last accepted snapshot").features
    lengths = feature.lengths_current
    assert (lengths.fewest, lengths.mean, lengths.most) == (1, pytest.approx(2), 3)
    assert feature.lengths_control is None, "one value in each"
    assert {value.value: value.current for value in feature.values} == pytest.approx(
        {"a": 4 / 6, "b": 1 / 6, "c": 1 / 6}
    )
    assert {value.value: value.control for value in feature.values} == pytest.approx({"a": 2 / 4, "b": 1 / 4, "c": 0})
