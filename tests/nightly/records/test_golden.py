"""A served row is compared with the golden outputs of its example."""

import math

import pytest

from nightly.records.golden import Golden, GoldenExample

EXAMPLE = GoldenExample(example_base64="", features={}, outputs={"probabilities": [0.7, 0.3], "other": [0.1]})


def test_the_largest_difference_is_that_of_any_number_of_any_output():
    assert EXAMPLE.difference({"probabilities": [0.7, 0.3], "other": [0.1], "class": ["a"]}) == 0
    assert EXAMPLE.difference({"probabilities": [0.7, 0.1], "other": [0.1]}) == pytest.approx(0.2)
    assert EXAMPLE.difference({"probabilities": [0.7, 0.3], "other": 0.5}) == pytest.approx(0.4)
    assert math.isnan(EXAMPLE.difference({"probabilities": [0.7, math.nan], "other": [0.9]}))


def test_the_only_output_of_a_model_has_no_name_in_its_answer():
    assert GoldenExample(example_base64="", features={}, outputs={"probability": [0.5]}).difference([0.75]) == 0.25


def test_large_numbers_are_compared_by_their_ratio():
    price = GoldenExample(example_base64="", features={}, outputs={"prediction": [250_000.0]})
    assert price.difference([250_000.02]) < 1e-6, "the next float32"
    assert price.difference([250_250.0]) == pytest.approx(0.001)


@pytest.mark.parametrize(
    "row", [{"other": [0.1]}, {"probabilities": [0.7], "other": [0.1]}, {"probabilities": "ab"}, []]
)
def test_an_answer_without_an_output_or_of_another_width_is_refused(row):
    with pytest.raises(ValueError, match=r"'probabilities' has 2 numbers a row, and not "):
        EXAMPLE.difference(row)


def test_golden_examples_of_older_releases_are_read():
    old = GoldenExample.parse({"example_base64": "", "features": {}, "probability": 0.25}, where="test")
    assert old.outputs == {"probability": [0.25]}
    golden = Golden(model="m", examples=[old])
    assert (golden.apis, golden.signatures) == ([], ["serving_default"])


def test_classes_with_scores_and_a_number_are_compared_as_the_client_has_them():
    row = EXAMPLE.model_copy(update={"answers": {"classify": [0.7, 0.3], "regress": [0.7]}})
    assert Golden(model="m", examples=[row]).signatures == ["serving_default", "classify", "regress"]
    assert row.difference([("a", 0.7), ("b", 0.2)], "classify") == pytest.approx(0.1)
    assert row.difference(0.5, "regress") == pytest.approx(0.2)
    with pytest.raises(ValueError, match=r"'classify' has 2 numbers a row, and not \[\('a', 0.7\)\]"):
        row.difference([("a", 0.7)], "classify")
