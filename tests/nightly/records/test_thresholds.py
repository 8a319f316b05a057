"""Which thresholds a night was judged by, and what changed since another."""

from nightly.models import load_config
from nightly.records.thresholds import ThresholdsUsed


def used(overrides=None, *, fare=0.2, schema="a", version=0):
    config = load_config("taxi").with_overrides(overrides or {})
    return ThresholdsUsed.of(
        config,
        {"drift.fare": fare},
        replaced=list(overrides or {}),
        schema_version=version,
        schema_text=schema,
        code_version="abc",
    )


def test_every_threshold_stands_under_the_key_that_replaces_it():
    found = used({"data_gate.min_rows": 7})
    assert found.values["data_gate.min_rows"] == 7 and found.replaced == ["data_gate.min_rows"]
    assert found.values["data_gate.controls.same_season"] == 3 and found.values["drift.fare"] == 0.2
    assert found.values["model_gate.metrics.auc.floor"] == 0.85 and found.values["model_gate.slices"] == "payment_type"
    for key, value in found.values.items():  # each can be given for a run
        if key.startswith(("data_gate.", "model_gate.metrics.")):
            assert load_config("taxi").with_overrides({key: value})
    assert ThresholdsUsed.parse(found.model_dump_json(), where="test") == found


def test_the_fingerprint_is_that_of_what_judges():
    assert used().fingerprint == used().model_copy(update={"code_version": "def"}).fingerprint
    assert len({used().fingerprint, used(fare=0.3).fingerprint, used(schema="b").fingerprint}) == 3


def test_a_person_sees_what_changed():
    assert used().changes_since(used()) == []
    assert used({"data_gate.min_rows": 7}, fare=0.3).changes_since(used()) == [
        "data_gate.min_rows 600 → 7",
        "drift.fare 0.2 → 0.3",
    ]
    assert used(schema="b").changes_since(used()) == ["the schema (edited)"]
    assert used(schema="b", version=2).changes_since(used()) == ["the schema (version 0 → 2)"]
    without = used().model_copy(update={"values": {}})
    assert "drift.fare none → 0.2" in used().changes_since(without)
