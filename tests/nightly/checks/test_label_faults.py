"""Faults planted in the labels of real trips, of each kind of label, and in their weights; each is called by its name.

Labels shifted by one row are seen only where a text, a code or another whole number tells much about the label.
"""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from nightly.checks import label_values, serving, weights
from nightly.checks.evidence import Compared, Measured, Served, SnapshotRows
from nightly.checks.label import balance_by_value
from nightly.models import load_config
from nightly.records.baseline import Control
from nightly.records.config import ModelConfig
from nightly.records.label_config import BinaryLabel
from nightly.records.label_spec import LabelSummary
from nightly.statistics.serving import Requests
from nightly.training.export import serving_features
from tests.support.judged_nights import judge_night

NIGHT = "2015-06-01"
CONTROLS = {"last_accepted": "2015-05-31", "same_season": "2014-06-02"}
LABELS = {
    "tip": {"column": "big_tipper", "positive": ["1"]},
    "fare": {"kind": "number", "column": "fare", "transform": "log1p"},
    "payment": {"kind": "classes", "column": "payment_type"},
    "day": {"kind": "classes", "column": "trip_start_day"},
    "payment learned": {"kind": "classes", "column": "payment_type", "classes": "learned"},
}


def config_of(label, **data):
    config = load_config("taxi").model_dump()
    return ModelConfig.parse(
        config | {"data": config["data"] | {"label": LABELS[label]} | data, "model_gate": {}}, where="test"
    )


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """Judges the night with a planted fault, against clean nights of the same label."""
    controls = {}

    def judged(label, fault=lambda rows: rows, **data):
        config = config_of(label, **data)
        key = (label, str(data))
        if key not in controls:
            controls[key] = {
                name: judge_night("taxi", day, tmp_path_factory.mktemp("control"), config=config)
                for name, day in CONTROLS.items()
            }
        folder = tmp_path_factory.mktemp("night")
        return judge_night("taxi", NIGHT, folder, fault=fault, controls=controls[key], config=config)

    return judged


def every(column, number, value):
    """Write `value` into every number-th row."""
    return lambda rows: rows.assign(**{column: np.where(np.arange(len(rows)) % number == 5, value, rows[column])})


def cents(rows):
    return rows.assign(fare=(rows.fare.astype(float) * 100).map(str))


def where(column, value, change):
    def fault(rows):
        chosen = rows[column] == value
        rows.loc[chosen] = change(rows[chosen].copy())
        return rows

    return fault


def of_one_company(change):
    return where("company", "Dispatch Taxi Affiliation", change)


def flipped(rows):
    return rows.assign(big_tipper=rows.big_tipper.map({"0": "1", "1": "0"}))


def merged(old, new):
    return lambda rows: rows.assign(payment_type=rows.payment_type.replace({old: new}))


def late(column):
    """Leave the label blank from 2015-05-19 on."""
    return lambda rows: rows.assign(
        **{column: rows[column].where(rows.trip_start_timestamp.astype(int) < 1431993600, "")}
    )


def shifted(column):
    def fault(rows):
        rows = rows.sort_values("trip_start_timestamp", kind="stable")
        return rows.assign(**{column: np.roll(rows[column].to_numpy(), 1)})

    return fault


FAULTS = {
    "fares in cents": ("fare", cents, "max_label_change", "its median is 805 (from 0 to 17,505), and was 8.05"),
    "fares in cents of one company": (
        "fare",
        of_one_company(cents),
        "max_label_change_by_value",
        "where company is Dispatch Taxi Affiliation, 0.0% of the labels are up to 53.85, 100.0% in the last accepted",
    ),
    "fares in cents in one hour of the day": (
        "fare",
        where("trip_start_hour", "17", cents),
        "max_label_change_by_value",
        "where trip_start_hour is 17, 0.0% of the labels are ",
    ),
    "fares shifted by one row": (
        "fare",
        shifted("fare"),
        "max_label_change_by_value",
        "where pickup_community_area is 76, ",
    ),
    "one fare throughout": ("fare", lambda rows: rows.assign(fare="5"), "constant_label", "every recorded fare is 5:"),
    "a negative fare": (
        "fare",
        every("fare", 10_000, "-3.5"),
        "label",
        'the label fare is below 0, which transform = "log1p" does not allow, in 1 row: -3.5 in rows-00000-of-00001',
    ),
    "fares as text": (
        "fare",
        lambda rows: rows.assign(fare=rows.fare + " USD"),
        "label",
        "the label fare is not a number, as data.label.kind = 'number' needs, in 4,992 rows: '19.45 USD' in rows-00000",
    ),
    "fares that come late": ("fare", late("fare"), "min_label_share", "rows since 2015-05-19 has it"),
    "a class merged into another": (
        "payment",
        merged("Credit Card", "Cash"),
        "max_label_change",
        "99.4% of payment_type are 'Cash', 63.6% in the last accepted snapshot",
    ),
    "a rare class merged into another": (
        "payment",
        merged("No Charge", "Cash"),
        "max_lost_classes",
        "1 class of payment_type is gone: 'No Charge' (0 rows, 23 in the last accepted snapshot (2015-05-31))",
    ),
    "a rare learned class merged into another": (
        "payment learned",
        merged("No Charge", "Cash"),
        "max_lost_classes",
        "1 class of payment_type is gone: 'No Charge' (0 rows, 23 in the last accepted snapshot (2015-05-31))",
    ),
    "a class renamed to one that the schema lacks": (
        "payment",
        merged("Credit Card", "Card"),
        "min_label_share",
        "1,785 rows have a value that the label's domain lacks: 'Card' (1,785)",
    ),
    "a class that the schema lacks": (
        "payment",
        every("payment_type", 200, "Voucher"),
        "max_new_classes",
        "payment_type has 1 class that the schema's domain lacks: 'Voucher' (25 rows)",
    ),
    "a learned class that no control has": (
        "payment learned",
        every("payment_type", 200, "Voucher"),
        "max_new_classes",
        "payment_type has 1 class that no control has: 'Voucher' (25 rows)",
    ),
    "one class throughout": (
        "payment learned",
        lambda rows: rows.assign(payment_type="Cash"),
        "constant_label",
        "every recorded payment_type is 'Cash': nothing to learn",
    ),
    "whole numbers with fractions among them": (
        "day",
        every("trip_start_day", 500, "2.5"),
        "label",
        "the label trip_start_day is not text or a whole number, as data.label.kind = 'classes' needs, in 10 rows: '",
    ),
    "a whole number that the schema lacks": (
        "day",
        every("trip_start_day", 200, "8"),
        "max_new_classes",
        "trip_start_day has 1 class that the schema's domain lacks: '8' (25 rows)",
    ),
    "classes merged for one company": (
        "payment learned",
        of_one_company(merged("Credit Card", "Cash")),
        "max_label_change_by_value",
        "where company is Dispatch Taxi Affiliation, ",
    ),
    "classes merged in one community area": (
        "payment",
        where("pickup_community_area", "8", merged("Credit Card", "Cash")),
        "max_label_change_by_value",
        "where pickup_community_area is 8, ",
    ),
    "tips flipped in one community area": (
        "tip",
        where("dropoff_community_area", "28", flipped),
        "max_label_change_by_value",
        "where dropoff_community_area is 28, ",
    ),
    "tips shifted by one row": (
        "tip",
        shifted("big_tipper"),
        "max_label_change_by_value",
        "where payment_type is Credit Card, 25.4% of the labels are positive, 68.0% in the last accepted snapshot",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_labels_holds_the_night_and_is_named(name, judge):
    label, fault, check, words = FAULTS[name]
    reasons = [reason for reason in judge(label, fault).reasons if reason.check == check and reason.held]
    assert any(words in reason.message for reason in reasons), [reason.message for reason in reasons]
    assert all(reason.action and reason.severity == "error" and reason.threshold is not None for reason in reasons)


@pytest.mark.parametrize("label", LABELS)
def test_ordinary_labels_of_each_kind_hold_nothing(label, judge):
    judged = judge(label)
    assert judged.held == set()
    assert judged.reason("max_label_change", judged.evidence.config.data.label.column).figure > 0
    measured = [reason for reason in judged.reasons if reason.check == "max_label_change_by_value"]
    assert measured and all(reason.figure is not None for reason in measured)


def test_labels_shifted_by_one_row_are_not_seen_where_no_feature_tells_much_about_them(judge):
    ignore = [*config_of("payment").data.ignore, "big_tipper"]  # only trips by card have a recorded tip
    held = judge("payment", shifted("payment_type"), ignore=ignore).held
    assert held == {("schema", "big_tipper")}, "an ignored column that the schema has; docs/checks.md says the rest"


def test_a_few_texts_among_numbers_are_left_out_and_the_first_is_named_with_its_row(judge):
    judged = judge("fare", every("fare", 1500, "n/a"))
    message = judged.reason("max_rejected_share", "fare").message
    assert "4 of 4,992 rows could not be read, most for 'number' in fare (for example 'n/a' in row 7 of body.csv)" in (
        message
    )


def test_after_a_change_of_the_label_the_same_snapshot_is_counted_again_and_not_compared(tmp_path):
    before = judge_night("taxi", NIGHT, tmp_path, config=config_of("tip"))
    judged = judge_night("taxi", NIGHT, tmp_path, config=config_of("fare"), controls={"last_accepted": before})
    assert judged.evidence.manifest == before.evidence.manifest
    assert judged.evidence.manifest.label_column == "big_tipper"
    assert judged.evidence.label.rows == judged.evidence.manifest.rows
    assert (judged.baseline().label_column, len(judged.baseline().label_quantiles)) == ("fare", 101)
    assert judged.reason("max_label_change", "fare").figure is None
    assert not [reason for reason in judged.reasons if reason.check == "max_label_change_by_value"]
    assert judged.held == set()


def test_other_positive_labels_are_not_compared_by_value_with_those_of_a_control(tmp_path):
    def judged(positive, control=None):
        config = config_of("tip")
        label = BinaryLabel(column="payment_type", positive=positive)
        config = config.model_copy(update={"data": config.data.model_copy(update={"label": label})})
        controls = {"last_accepted": control} if control else {}
        return judge_night("taxi", NIGHT, tmp_path, config=config, controls=controls)

    before = judged(["Cash"])
    after = judged(["Credit Card"], before)
    (reason,) = (reason for reason in after.reasons if reason.check == "max_label_change_by_value")
    assert (reason.held, reason.figure, reason.control) == (False, None, "last_accepted")
    assert "was not measured: its positive labels are Cash, and now Credit Card" in reason.message
    assert after.held == set()


def test_a_baseline_that_lacks_the_counts_of_whole_numbers_is_not_compared_by_them(judge):
    """Those of earlier versions do."""
    evidence = judge("tip", where("dropoff_community_area", "28", flipped)).evidence

    def of_texts(compared):
        baseline = compared.control.baseline
        texts = {
            name: values for name, values in baseline.label_by_value.items() if name in ("company", "payment_type")
        }
        baseline = baseline.model_copy(update={"label_by_value": texts})
        return replace(compared, control=compared.control.model_copy(update={"baseline": baseline}))

    older = replace(evidence, compared=[of_texts(compared) for compared in evidence.present])
    reasons = {reason.subject: reason for reason in balance_by_value(older)}
    assert set(reasons) == {"company", "payment_type", "big_tipper"} and not any(r.held for r in reasons.values())
    assert reasons["big_tipper"].figure is None and reasons["big_tipper"].severity == "warning"
    assert "was not measured: no control has its counts by value of " in reasons["big_tipper"].message
    assert "dropoff_community_area" in reasons["big_tipper"].message
    newest, *others = evidence.present
    mixed = replace(evidence, compared=[newest, *(of_texts(compared) for compared in others)])
    reasons = list(balance_by_value(mixed))
    assert [reason.subject for reason in reasons if reason.held] == ["dropoff_community_area"]
    assert all(reason.figure is not None for reason in reasons), "one control is enough"


@pytest.mark.parametrize("kind", ["payment", "payment learned"])
def test_a_class_that_the_last_night_lacks_too_is_missed_in_production(kind, judge):
    """As one that fades: each night has a few rows less of it than the night before."""
    clean, gone = judge(kind), judge(kind, merged("No Charge", "Cash"))

    def lost(**controls):
        evidence, config = gone.evidence, gone.evidence.config
        compared = [
            Compared(Control(name=name, factor=1, folder="trial", baseline=night.baseline()), night.evidence.train)
            for name, night in controls.items()
        ]
        assert config.data_gate.max_lost_classes == 0
        reasons = label_values.classes(replace(evidence, compared=compared))
        return next(reason for reason in reasons if reason.check == "max_lost_classes")

    held = lost(last_accepted=gone, production=clean)
    assert (held.held, held.severity, held.figure) == (True, "error", 1)
    title = "the snapshot of the model in production (2015-06-01)"
    assert held.message == f"1 class of payment_type is gone: 'No Charge' (0 rows, 22 in {title})"
    (value,) = held.values
    assert (value.value, value.rows, value.share) == ("No Charge", 0, 0.0) and value.control > 0
    both = lost(last_accepted=clean, production=clean)
    assert both.figure == 1 and both.message.endswith("22 in the last accepted snapshot (2015-06-01))"), "counted once"
    accepted = lost(last_accepted=gone, production=gone)
    assert (accepted.held, accepted.figure) == (False, 0)
    assert lost(production=clean).held and not lost(last_accepted=gone, same_season=clean).held
    first = lost()
    assert (first.held, first.figure) == (False, None)
    assert "was not measured: there is no control whose classes are known" in first.message


def test_a_whole_number_that_hardly_occurs_is_named_without_holding(judge):
    single = judge("day", lambda rows: rows.assign(trip_start_day=rows.trip_start_day.where(few(rows), "1")))
    messages = [reason.message for reason in single.reasons if reason.figure == "1 rare classes"]
    assert messages == ["classes of trip_start_day with fewer than 2 examples: '7' (1)"]


@pytest.mark.parametrize(
    ("now", "before", "absent"),
    [
        ({"a": 975, "b": 25}, [{"a": 1000}], ["b"]),
        ({"a": 975, "b": 25}, [{"a": 1000}, {"a": 100}], ["b"]),  # too few rows of the second to tell
        ({"a": 975, "b": 25}, [{"a": 1000}, {"a": 99, "b": 1}], []),  # but it has the class
        ({"a": 975, "b": 25}, [{"a": 998, "b": 2}], ["b"]),  # all but absent
        ({"a": 975, "b": 25}, [{"a": 700}], []),  # there may be none by chance
    ],
)
def test_a_class_is_absent_if_none_has_it_and_chance_does_not_explain_that(now, before, absent):
    summaries = [LabelSummary.of_counts(counts) for counts in before]
    assert label_values._absent(LabelSummary.of_counts(now), summaries) == absent


@pytest.mark.parametrize(
    ("rows", "absent"),
    [
        (19, ["b"]),  # too few for a class of its own, and the control expects 60
        (20, []),
    ],
)
def test_a_class_with_too_few_rows_to_be_learned_is_absent_if_that_is_no_chance(rows, absent):
    def lacked(control):
        now = LabelSummary.of_counts({"a": 1000 - rows, "b": rows})
        return label_values._absent(LabelSummary.of_counts(control), [now], few=20)

    assert lacked({"a": 940, "b": 60}) == absent
    assert lacked({"a": 955, "b": 45}) == [], "there may be so few by chance"


@pytest.mark.parametrize(("few", "rows"), [(10, 12), (10, 20), (10, 35), (20, 30), (20, 45), (20, 60)])
def test_chance_makes_no_rare_class_absent(few, rows):
    random, nights, classes = np.random.default_rng(20), 400, 40

    def night():
        counts = {f"rare {n}": int(count) for n, count in enumerate(random.poisson(rows, classes))}
        return LabelSummary.of_counts({**counts, "common": 5000})

    held = sum(bool(label_values._absent(night(), [night()], few)) for _ in range(nights))
    assert held <= 2, held


def few(rows):
    """Whether each row keeps its day: all but those of day 7, of which only the first does."""
    seventh = rows.trip_start_day == "7"
    return ~seventh | (seventh.cumsum() == 1)


def test_classes_too_rare_to_learn_are_named_without_holding(judge):
    rare = [reason for reason in judge("payment").reasons if reason.figure == "3 rare classes"]
    assert [reason.held for reason in rare] == [False]
    assert "fewer than 2 examples to train on: 'Dispute' (0), 'Pcard' (0), 'Prcard' (0)" in rare[0].message


def test_learned_classes_too_rare_to_learn_are_named_where_a_single_row_is_enough(judge):
    evidence = judge("payment learned", every("payment_type", 10_000, "Voucher")).evidence
    assert not list(label_values.usable(evidence))
    label = evidence.config.data.label.model_copy(update={"min_class_rows": 1})
    data = evidence.config.data.model_copy(update={"label": label})
    reasons = list(label_values.usable(replace(evidence, config=evidence.config.model_copy(update={"data": data}))))
    assert reasons and not any(reason.held for reason in reasons)
    assert any("'Voucher' (1)" in reason.message for reason in reasons)
    assert all("data.label.min_class_rows = 2" in reason.action for reason in reasons)


def test_a_label_that_stops_is_a_warning_with_its_day_where_enough_rows_have_it(judge, tmp_path):
    config = config_of("fare").with_overrides({"data_gate.min_label_share": 0.5})
    judged = judge_night("taxi", NIGHT, tmp_path, fault=late("fare"), config=config)
    (warning,) = (reason for reason in judged.reasons if reason.check == "label" and reason.severity == "warning")
    assert not warning.held and warning.figure == "late since 2015-05-19"
    assert "rows since 2015-05-19 has it" in warning.message


WEIGHTS = {
    "blank": (every("trip_miles", 1000, ""), "the weight trip_miles is blank, in 5 rows: blank in rows-00000"),
    "negative": (every("trip_miles", 10_000, "-1"), "the weight trip_miles is negative, in 1 row: -1.0 in rows-00000"),
    "not a number": (
        every("trip_miles", 10_000, "nan"),
        "1 row was left out, because the weight trip_miles is not a number there: 'nan' in row 7 of body.csv",
    ),
    "all zero": (
        lambda rows: rows.assign(trip_miles="0"),
        "every weight trip_miles of the train split is 0, as in rows-00000",
    ),
    "text": (
        lambda rows: rows.assign(trip_miles=rows.trip_miles + " km"),
        "the weight trip_miles is string, and not a number: '",
    ),
    "gone": (lambda rows: rows.drop(columns="trip_miles"), "the weight trip_miles is gone"),
}


@pytest.mark.parametrize("fault", WEIGHTS)
def test_weights_that_cannot_be_used_hold_the_night_and_are_named(fault, judge):
    change, words = WEIGHTS[fault]
    judged = judge("tip", lambda rows: change(whole(rows)), weight_column="trip_miles")
    held = [reason.message for reason in judged.reasons if reason.check == "weights" and reason.held]
    assert any(words in message for message in held), held


@pytest.mark.parametrize(
    ("check", "column", "words"),
    [
        (label_values.usable, "fare", "the label fare is not a finite number, in 1 row: 1e+39 in rows-00000"),
        (weights.check, "trip_miles", "the weight trip_miles is not finite, in 1 row: 1e+39 in rows-00000"),
    ],
)
def test_a_number_that_examples_cannot_hold_is_named(check, column, words, judge, tmp_path):
    """A snapshot of today has none. Those of earlier versions may."""
    evidence = judge("fare", whole, weight_column="trip_miles").evidence
    for path in evidence.rows.folder.glob("rows-*.parquet"):
        table = pq.read_table(path)
        numbers = [1e39, *table[column].to_pylist()[1:]]
        pq.write_table(table.set_column(table.schema.get_field_index(column), column, [numbers]), tmp_path / path.name)
    messages = [reason.message for reason in check(replace(evidence, rows=SnapshotRows(tmp_path)))]
    assert [message for message in messages if words in message], messages


def test_usable_weights_hold_nothing(judge):
    judged = judge("tip", whole, weight_column="trip_miles")
    assert not [reason for reason in judged.reasons if reason.check == "weights"]


def test_weights_are_not_compared_with_requests(judge):
    evidence = judge("tip", whole, weight_column="trip_miles").evidence
    assert "trip_miles" in serving_features(evidence.schema), "it is no matter of the schema's environments"
    features = {name: stats for name, stats in evidence.train.features.items() if name != "trip_miles"}
    as_of = evidence.night.as_of
    about = Requests(folder="requests", start=as_of, end=as_of, rows_start=as_of)
    served = Served(about, Measured(evidence.train.examples, features), evidence.train)
    reasons = list(serving.check(replace(evidence, serving=served)))
    assert {"fare", "company"} <= {reason.subject for reason in reasons}
    assert "trip_miles" not in {reason.subject for reason in reasons}


def whole(rows):
    """The trips without a blank weight."""
    return rows[rows.trip_miles != ""]
