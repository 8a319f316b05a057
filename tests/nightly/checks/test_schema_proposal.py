"""What is proposed for real trips that no longer fit the schema; and that the night passes with it, or does not."""

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.checks.schema_proposal import propose
from nightly.models import load_config
from nightly.schemas.curated import parse_schema
from nightly.schemas.text import SchemaEditError, SchemaText, comments
from tests.support.judged_nights import judge_night

NIGHT = "2015-06-01"
CURATED = load_config("taxi").folder / "schema.pbtxt"


@pytest.fixture(scope="module")
def controls(tmp_path_factory):
    return {"last_accepted": judge_night("taxi", "2015-05-31", tmp_path_factory.mktemp("control"))}


def some(count, **values):
    """Give the first `count` rows these values."""

    def fault(rows):
        rows.loc[rows.index[:count], list(values)] = list(values.values())
        return rows

    return fault


def every(column, change):
    return lambda rows: rows.assign(**{column: rows[column].map(lambda text: text and change(text))})


def surges(rows):
    return rows.assign(surge=[f"{1 + n % 7 / 4:g}" for n in range(len(rows))])


def booked_by(rows):
    return rows.assign(booked_by=["app" if n % 3 else "phone" for n in range(len(rows))])


CASES = {  # fault, feature, kind, what the new one is, a line of the diff, whether the night could go on
    "a new column of numbers": (surges, "surge", "new column", "FLOAT", "+  type: FLOAT", True),
    "a new column of categories": (
        *(booked_by, "booked_by", "new column", "BYTES, one of 2 values"),
        *('+  string_domain { name: "booked_by" value: "app" value: "phone" }', True),
    ),
    "a new category": (
        *(some(150, payment_type="Mobile"), "payment_type", "new values", "'Mobile'"),
        *('+  value: "Mobile"', True),
    ),
    "a category renamed": (
        *(every("payment_type", lambda v: "CASH" if v == "Cash" else v), "payment_type", "new values", "'CASH'"),
        *('+  value: "CASH"', False),
    ),
    "whole numbers with fractions": (
        *(every("trip_seconds", lambda v: f"{v}.5"), "trip_seconds", "type", "FLOAT"),
        *("+  float_domain { min: 0 max: 86400 }  # a trip is within a day", True),
    ),
    "numbers as text": (
        *(every("trip_seconds", lambda v: f"{v} s"), "trip_seconds", "type", "BYTES"),
        *("-  drift_comparator { jensen_shannon_divergence { threshold: 0.2 source { type: QUANTILES } } }", True),
    ),
    "a longer trip": (
        *(some(40, trip_seconds="90000"), "trip_seconds", "range", "at least 0, at most 90000"),
        *("+  int_domain { min: 0 max: 90000 }  # a trip is within a day", True),
    ),
    "a refund": (some(40, fare="-3.279"), "fare", "range", "at least -3.28", "+  float_domain { min: -3.28 }", True),
    "fewer values": (
        *(some(130, trip_miles=""), "trip_miles", "presence", "in at least 97%"),
        *("+  presence { min_fraction: 0.97 min_count: 1 }", True),
    ),
}


@pytest.fixture(params=CASES)
def case(request, controls, tmp_path):
    fault, *expected = CASES[request.param]
    judged = judge_night("taxi", NIGHT, tmp_path, fault=fault, controls=controls)
    return fault, judged, *expected


def test_what_does_not_fit_is_proposed_as_a_change_of_a_few_lines(case, controls, tmp_path):
    fault, judged, feature, kind, new, line, lifts = case
    base = CURATED.read_text()
    proposal = propose(judged.evidence, judged.statistics, base)

    [change] = proposal.changes
    assert (change.feature, change.kind, change.new) == (feature, kind, new)
    assert change.values and change.risk
    assert line in proposal.diff.splitlines()
    assert proposal.lifts is lifts, proposal.left
    assert comments(proposal.text) == comments(base)
    untouched = {f.name: f for f in parse_schema(base, where="").feature if f.name != feature}
    assert {f.name: f for f in parse_schema(proposal.text, where="").feature if f.name != feature} == untouched

    (tmp_path / "new.pbtxt").write_text(proposal.text)
    again = judge_night(
        "taxi", NIGHT, tmp_path / "again", fault=fault, controls=controls, schema=tmp_path / "new.pbtxt"
    )
    assert bool(again.held) is not lifts, "what was foreseen is so"
    assert propose(again.evidence, again.statistics, proposal.text) is None


def test_several_changes_are_one_proposal(controls, tmp_path):
    def fault(rows):
        return surges(
            some(40, trip_seconds="90000.5", payment_type="Mobile")(every("trip_seconds", "{}.5".format)(rows))
        )

    judged = judge_night("taxi", NIGHT, tmp_path, fault=fault, controls=controls)
    proposal = propose(judged.evidence, judged.statistics, CURATED.read_text())
    found = {(change.feature, change.kind) for change in proposal.changes}
    assert found >= {("surge", "new column"), ("trip_seconds", "type"), ("trip_seconds", "range")}
    assert proposal.lifts, proposal.left


def test_a_new_spelling_is_named_as_one(controls, tmp_path):
    judged = judge_night("taxi", NIGHT, tmp_path, fault=some(150, payment_type="credit card"), controls=controls)
    [change] = propose(judged.evidence, judged.statistics, CURATED.read_text()).changes
    assert "'credit card' looks like 'Credit Card'" in change.risk
    assert change.rows and (change.values[0].value, change.values[0].rows) == ("credit card", 150)


@pytest.mark.parametrize(
    "fault",
    [
        lambda rows: rows.drop(columns="payment_type"),
        lambda rows: rows.assign(big_tipper=rows.big_tipper.map({"0": "7", "1": "9"})),
        lambda rows: rows.assign(payment_type="Cash"),
    ],
    ids=["a column that is gone", "another label", "drift"],
)
def test_what_no_schema_mends_is_not_proposed(fault, controls, tmp_path):
    judged = judge_night("taxi", NIGHT, tmp_path, fault=fault, controls=controls)
    assert judged.held
    assert propose(judged.evidence, judged.statistics, CURATED.read_text()) is None


ODD = """# 1
feature { name: 'a' type: INT int_domain { min: 0 max: 9 } # 2 { "
}
feature <  # 3 'b'
  name: "b#"; type: BYTES,
  string_domain { value: "x" value: "y" }
>
string_domain {
  name: "z"
  value: "}"  # 4
}
"""


def test_text_of_any_style_is_edited_in_its_own():
    text = SchemaText(ODD)
    text.replace(text.domain("a", "int_domain").one("max"), "12")
    text.append(text.domain("b#", "string_domain"), "value", ['value: "new"'])
    text.append(text.root.one("string_domain"), "value", ['value: "{"'])
    edited = text.edited()
    assert comments(edited) == comments(ODD) == ["# 1", '# 2 { "', "# 3 'b'", "# 4"]
    schema = text_format.Parse(edited, schema_pb2.Schema())
    assert schema.feature[0].int_domain.max == 12
    assert list(schema.feature[1].string_domain.value) == ["x", "y", "new"]
    assert list(schema.string_domain[0].value) == ["}", "{"]
    assert '  value: "}"  # 4\n  value: "{"\n}' in edited


@pytest.mark.parametrize("text", ["feature { name: 'a'", "}", "feature { name: }", "?"])
def test_text_that_cannot_be_read_is_refused(text):
    with pytest.raises(SchemaEditError):
        SchemaText(text).feature("a")
