"""The labels of a feature's values: counted as by hand, and on real trips."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightly.checks.evidence import VALUES
from nightly.checks.findings import chance_of_change, finding
from nightly.checks.label import balance, balance_by_value
from nightly.checks.label_rows import CLASSES, frequent_values, label_by_value
from nightly.nights import older_findings
from nightly.nights.causes import causes
from nightly.records.label_config import BinaryLabel, ClassesLabel, NumberLabel
from nightly.records.label_spec import OTHER, POSITIVE, LabelSummary
from nightly.snapshots.labels import quantiles
from tests.support.judged_nights import judge_night


def test_labels_are_counted_of_every_value_that_can_be_judged_and_of_no_rare_one(tmp_path):
    evidence = judge_night("taxi", "2014-02-01", tmp_path).evidence
    label, enough, folder = evidence.config.data.label, evidence.gate.min_rows_for_value, evidence.rows.folder
    frequent = {
        name: [bucket.label for bucket in stats.string_stats.rank_histogram.buckets[:VALUES]]
        for name, stats in evidence.train.features.items()
        if stats.HasField("string_stats")
    }
    every = label_by_value(folder, frequent, label, evidence.label)
    counted = [(feature, value, each.rows) for feature, values in every.items() for value, each in values.items()]
    judged = [(feature, value) for feature, value, rows in counted if rows >= enough]
    rare = [(feature, value) for feature, value, rows in counted if rows < enough / 4]
    assert judged and rare
    for feature, value in judged:
        assert evidence.label_by_value[feature][value] == every[feature][value]
    assert not [value for feature, value in rare if value in evidence.label_by_value.get(feature, {})]


def counted_pairs(by_value):
    """feature -> value -> (labelled rows, positive rows)"""
    return {
        feature: {value: (each.rows, each.counts.get(POSITIVE, 0)) for value, each in values.items()}
        for feature, values in by_value.items()
    }


def test_labels_are_counted_as_row_by_row(tmp_path):
    """Values and labels that are missing, texts and numbers, shards of several row groups with other values in each."""
    random = np.random.default_rng(0)
    columns = {
        "text": [None, "", "a", "b", "großes C", *(f"rare {n}" for n in range(500))],
        "number": [None, 0, 1, 2],
        "raw": [None, b"x", b"y"],
        "label": [None, "Yes", "No", "yes"],
    }
    types = {"text": pa.string(), "number": pa.int64(), "raw": pa.binary(), "label": pa.string()}
    rows: list[dict] = []
    for shard in range(2):
        drawn = {name: [each[n] for n in random.integers(0, len(each), 1000)] for name, each in columns.items()}
        drawn["text"][: 300 * shard] = ["only in one"] * 300 * shard
        table = pa.table({name: pa.array(each, types[name]) for name, each in drawn.items()})
        pq.write_table(table, tmp_path / f"rows-{shard}.parquet", row_group_size=300)
        rows += table.to_pylist()
    wanted = {
        "text": ["b", "a", "", "großes C", "only in one", "in none"],
        "number": ["2", "0"],
        "raw": ["y"],
        "label": ["Yes"],
        "gone": ["a"],
    }
    expected = {}
    for name in ("text", "number", "raw"):
        read = [(one[name].decode() if name == "raw" and one[name] else one[name], one["label"]) for one in rows]
        labelled = Counter(str(value) for value, label in read if value is not None and label)
        positive = Counter(str(value) for value, label in read if value is not None and label in ("Yes", "yes"))
        expected[name] = {value: (labelled[value], positive[value]) for value in wanted[name] if labelled[value]}
    label = BinaryLabel(column="label", positive=["Yes", "yes"])
    found = counted_pairs(label_by_value(tmp_path, wanted, label, LabelSummary(rows=0)))
    assert found == expected
    for counts in found.values():
        assert list(counts) == sorted(counts, key=lambda value: (-counts[value][0], value)), "the most frequent first"
    gone = BinaryLabel(column="no such label", positive=["Yes"])
    assert label_by_value(tmp_path, wanted, gone, LabelSummary(rows=0)) == {}


def shards_of(folder, **columns):
    """Two files of a snapshot with these columns."""
    table = pa.table(columns)
    half = table.num_rows // 2
    for number, part in enumerate((table.slice(0, half), table.slice(half))):
        pq.write_table(part, folder / f"rows-{number}.parquet", row_group_size=max(1, half // 3))


def test_the_frequent_values_of_whole_numbers_are_counted_over_all_files(tmp_path):
    zips = [60601] * 5 + [None] * 9 + [60602] * 3 + [60610] * 5 + [60699, -1]
    shards_of(tmp_path, zip=zips, row=list(range(len(zips))))
    assert frequent_values(tmp_path, ["zip", "row"], 50, 3) == {"zip": ["60601", "60610", "60602"]}
    assert frequent_values(tmp_path, ["zip"], 2, 3) == {"zip": ["60601", "60610"]}
    assert frequent_values(tmp_path, ["zip"], 50, 6) == {}
    assert frequent_values(tmp_path / "empty", ["zip"], 50, 1) == {}


def by_value(kind, now, *controls, allowed, factors=(1, 1, 1, 1)):
    """The findings of a feature `code`, from labels by value of the night and of each control."""
    label = BinaryLabel(column="y", positive=["1"]) if kind == "binary" else NumberLabel(column="y")
    sides = [
        {
            "code": {
                str(code): LabelSummary.of(label, dict(Counter(labels.astype(str))), quantiles(np.sort(labels), 20))
                for code, labels in enumerate(side)
            }
        }
        for side in (now, *controls)
    ]
    common = {"summary": lambda label: label, "label_kind": kind, "positive": ["1"]}
    baselines = [SimpleNamespace(**common, label_by_value=side) for side in sides[1:]]
    compared = [
        SimpleNamespace(name=str(n), title=f"control {n}", baseline=each, factor=factors[n])
        for n, each in enumerate(baselines)
    ]
    evidence = SimpleNamespace(
        config=SimpleNamespace(data=SimpleNamespace(label=label)),
        positive=["1"] if kind == "binary" else [],
        label_by_value=sides[0],
        present=[SimpleNamespace(control=control) for control in compared],
        allowed=lambda key, control: allowed * control.factor,
        gate=SimpleNamespace(min_rows_for_value=100),
        rows=SimpleNamespace(having=lambda *of: []),
    )
    return list(balance_by_value(evidence))


LABELS = {
    "binary": lambda random, rows: (random.random(rows) < 0.5).astype(int),
    "number": lambda random, rows: random.gamma(2.0, 5.0, rows),
}


@pytest.mark.parametrize("kind", LABELS)
def test_chance_holds_hardly_a_night_however_many_values_a_feature_has(kind):
    """24 hours with 100 to 150 rows each: by the threshold alone, many nights would be held."""
    random, held, beyond, nights, allowed = np.random.default_rng(16), 0, 0, 200, 0.15
    for _ in range(nights):
        now, before = ([LABELS[kind](random, rows) for rows in random.integers(100, 150, 24)] for _ in range(2))
        (reason,) = by_value(kind, now, before, allowed=allowed)
        held += reason.held
        beyond += reason.figure > allowed
    assert beyond > nights / 4 and held <= 0.02 * nights, (beyond, held)


@pytest.mark.parametrize("kind", LABELS)
def test_chance_holds_hardly_a_night_however_many_controls_it_has(kind):
    random, held, rows = np.random.default_rng(18), 0, 110
    for _ in range(200):
        now, *controls = ([LABELS[kind](random, rows) for _ in range(24)] for _ in range(5))
        (reason,) = by_value(kind, now, *controls, allowed=0.15)
        held += reason.held
        assert reason.chance == pytest.approx(chance_of_change(rows, rows, 4 * 24), rel=1e-5)
    assert held <= 2, held


@pytest.mark.parametrize("kind", LABELS)
def test_a_fault_of_one_value_among_many_is_found(kind):
    random = np.random.default_rng(17)
    now, before = ([LABELS[kind](random, 120) for _ in range(24)] for _ in range(2))
    now[7] = np.zeros_like(now[7])
    (reason,) = by_value(kind, now, before, allowed=0.15)
    assert reason.held and "where code is 7, " in reason.message
    assert 0.15 < reason.threshold == reason.chance < reason.figure
    (reason,) = by_value(kind, now, before, allowed=0.4)
    assert reason.threshold == 0.4 and reason.chance < 0.4


def test_a_small_change_of_many_rows_counts_more_than_a_larger_one_that_may_be_chance():
    before = [np.repeat([0, 1], rows // 2) for rows in (10_000, 100)]
    now = [np.repeat([0, 1], [3000, 7000]), np.repeat([0, 1], [26, 74])]
    (reason,) = by_value("binary", now, before, allowed=0.15)
    assert reason.held and reason.values[0].value == "0" and reason.values[1].value == "1"


def half_of(rows, positive):
    return np.repeat([0, 1], [round(rows * (1 - positive)), round(rows * positive)])


def test_the_threshold_that_lifts_the_finding_lifts_those_of_all_values_and_controls():
    before = [half_of(5000, 0.5), half_of(100, 0.5)]
    now = [half_of(5000, 0.9), half_of(100, 0.95)]
    (reason,) = by_value("binary", now, before, allowed=0.25)
    assert (reason.figure, reason.values[0].value) == (0.45, "1"), "not the one that is further beyond chance"
    assert not by_value("binary", now, before, allowed=0.45)[0].held

    (reason,) = by_value("binary", now, before, [half_of(5000, 0.3), before[1]], allowed=0.1, factors=(1, 2))
    assert (reason.figure, reason.control) == (0.45, "0"), "0.6 against a control of factor 2 is less"


def test_a_finding_by_value_says_what_is_allowed_and_whether_chance_is():
    before = [half_of(120, 0.5)] * 2
    (reason,) = by_value("binary", [half_of(120, 0.9), half_of(120, 0.5)], before, allowed=0.15)
    assert reason.held and f"a change of {reason.chance:.1%} is allowed, which chance can make" in reason.message
    (reason,) = by_value("binary", [half_of(120, 0.9), half_of(120, 0.5)], before, allowed=0.35)
    assert reason.held and "a change of 35.0% is allowed" in reason.message and "chance" not in reason.message


def test_the_numbers_of_each_value_are_those_of_its_rows(tmp_path):
    random = np.random.default_rng(1)
    cities = random.choice(["a", "b", "c"], 4001)
    numbers = [None if random.random() < 0.1 else float(random.normal(ord(city))) for city in cities]
    shards_of(tmp_path, city=pa.array(cities.tolist()), y=pa.array(numbers))
    found = label_by_value(tmp_path, {"city": ["a", "b", "z"]}, NumberLabel(column="y"), LabelSummary(rows=0))["city"]
    assert sorted(found) == ["a", "b"]
    for city, summary in found.items():
        known = sorted(y for y, other in zip(numbers, cities, strict=True) if other == city and y is not None)
        assert summary.rows == len(known)
        upper_ends = [-(-part * len(known) // 20) - 1 for part in range(1, 21)]
        assert summary.quantiles == [known[0], *(known[end] for end in upper_ends)]


def test_whole_numbers_beyond_those_of_a_float_are_counted_too(tmp_path):
    numbers = [2**60 + n for n in range(8)]
    shards_of(tmp_path, city=["a"] * 8, y=numbers)
    found = label_by_value(tmp_path, {"city": ["a"]}, NumberLabel(column="y"), LabelSummary(rows=0))["city"]["a"]
    assert found.rows == 8 and found.quantiles[-1] == float(numbers[-1])


def test_the_classes_of_each_value_are_counted_and_those_outside_the_schema_are_not_recorded(tmp_path):
    shards_of(tmp_path, city=pa.array(["a", "a", "a", "b", None, "a"]), y=pa.array([1, 2, 1, 2, 1, None]))
    every = LabelSummary.of_counts({"1": 3, "2": 2})
    label, values = ClassesLabel(column="y"), {"city": ["a", "b"]}
    found = label_by_value(tmp_path, values, label, every)["city"]
    assert {city: each.counts for city, each in found.items()} == {"a": {"1": 2, "2": 1}, "b": {"2": 1}}
    found = label_by_value(tmp_path, values, label, every, {"1"})["city"]
    assert {city: each.counts for city, each in found.items()} == {"a": {"1": 2}}


def test_of_many_classes_the_rare_ones_are_counted_together_and_not_compared(tmp_path):
    names = [f"{n:03}" for n in range(3 * CLASSES)]
    labels = [name for n, name in enumerate(names) for _ in range(len(names) - n)]
    shards_of(tmp_path, city=pa.array(["a"] * len(labels)), y=pa.array(labels))
    every = LabelSummary.of_counts({name: labels.count(name) for name in names})
    found = label_by_value(tmp_path, {"city": ["a"]}, ClassesLabel(column="y"), every)["city"]["a"]
    assert found.rows == len(labels) and set(found.counts) == {*names[:CLASSES], OTHER}
    without = {name: rows for name, rows in found.counts.items() if name != names[0]}
    assert LabelSummary.of_counts(without).change(found)[1] != names[0], "it may be among the others there"


def test_a_swap_of_two_classes_is_said_with_the_shares_of_the_class_that_is_named():
    now, before = (LabelSummary.of_counts({"Card": card, "Cash": 100 - card}) for card in (75, 25))
    baseline = SimpleNamespace(summary=lambda label, classes: before)
    control = SimpleNamespace(name="last_accepted", title="the control", baseline=baseline)
    evidence = SimpleNamespace(
        config=SimpleNamespace(data=SimpleNamespace(label=ClassesLabel(column="pay", classes="learned"))),
        label=now,
        classes=frozenset(),
        present=[SimpleNamespace(control=control)],
        allowed=lambda key, control: 0.05,
        gate=SimpleNamespace(min_rows_for_distance=10),
    )
    (reason,) = balance(evidence)
    assert reason.message == "25.0% of pay are 'Cash', 75.0% in the control: a change of 50.0%; 5.0% is allowed"
    (cause,) = causes([reason])
    assert cause.headline == "pay: 25 % are 'Cash', 75 % before"


def test_a_headline_is_the_message_without_the_threshold():
    words = {"limit": "0.1 is allowed", "more": "; most in A: 5.0%"}
    reason = finding("drift", "city", 0.3, 0.1, "city is 0.300 away", action="", **words)
    assert reason.message == "city is 0.300 away; 0.1 is allowed; most in A: 5.0%"
    assert reason.headline == older_findings.headline(reason) == "city is 0.300 away; most in A: 5.0%"
