"""Values of every kind are shown to a person in a few characters."""

import pytest

from nightly.io.tables import CELL, cell, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"\x89PNG" * 1000, "4,000 bytes"),
        ({"b64": "iVBORw=="}, "4 bytes"),
        ({"b64": "iVBORw0K"}, "6 bytes"),
        ([1, 2], "[1, 2]"),
        (list(range(64)), "[0, 1, 2, 3, … 64 values]"),
        (["a", b"bc"], "['a', 2 bytes]"),
        (0.5, "0.5"),
        ("text", "text"),
    ],
)
def test_bytes_are_their_size_and_lists_their_first_values(value, text):
    assert shown(value) == text
    assert cell(value) == text[:CELL]
