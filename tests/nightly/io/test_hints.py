"""A hint has the nearest name, or a list that can be read at a glance."""

from nightly.io.hints import did_you_mean


def test_the_nearest_name_or_else_a_list_of_bounded_length():
    assert did_you_mean("fair", ["fare", "tip"]) == "; did you mean 'fare'?"
    assert did_you_mean("x", ["fare", "tip"]) == "; valid are: fare, tip"
    columns = [f"column_{number:03}" for number in range(300)]
    assert did_you_mean("x", columns).endswith("column_018, column_019 and 280 more")
