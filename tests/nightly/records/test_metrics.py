"""docs/metrics.md defines every metric that a config may bound."""

import re

import pytest

from nightly.io.paths import ROOT
from nightly.records.metrics import NAMES, OF_CLASSES

HEADINGS = {"binary": "A binary label", "classes": "Classes", "number": "A number"}


@pytest.mark.parametrize("kind", NAMES)
def test_each_metric_of_a_kind_is_defined_in_the_docs_and_no_other(kind):
    text = (ROOT / "docs/metrics.md").read_text()
    section = re.search(rf"^## {HEADINGS[kind]}$(.*?)(?=^## |\Z)", text, re.S | re.M)[1]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    defined = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert defined == {*NAMES[kind], *OF_CLASSES[kind]}
