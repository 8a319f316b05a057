"""docs/metrics.md defines every metric that a config may bound."""

import re

import pytest

from nightly.io.paths import ROOT
from nightly.records.metrics import NAMES, OF_CLASSES, fixed_rate, listed_name

HEADINGS = {"binary": "A binary label", "classes": "Classes", "number": "A number"}


@pytest.mark.parametrize("kind", NAMES)
def test_each_metric_of_a_kind_is_defined_in_the_docs_and_no_other(kind):
    text = (ROOT / "docs/metrics.md").read_text()
    section = re.search(rf"^## {HEADINGS[kind]}$(.*?)(?=^## |\Z)", text, re.S | re.M)[1]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    defined = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert defined == {*NAMES[kind], *OF_CLASSES[kind]}


def test_a_metric_may_fix_a_rate_by_a_percentage():
    assert listed_name("recall_at_precision_90") == "recall_at_precision_N"
    assert fixed_rate("recall_at_false_positive_rate_1") == {"false_positive_rate": 0.01}
    for other in ("auc", "top_2_accuracy", "recall_at_precision_0", "recall_at_precision_090", "recall_at_precision_x"):
        assert listed_name(other) == other
        assert fixed_rate(other) == {}
