"""What held a night, by cause and in a person's terms."""

import pytest

from nightly.nights.causes import causes, headline
from nightly.nights.moves import moved
from nightly.records.night import Contribution, Reason


def reason(check="drift", subject="company", figure=0.1, threshold=0.05, held=True, **more):
    default = {"message": f"{subject} is {figure} away from the control; {threshold} is allowed"}
    return Reason(check=check, subject=subject, figure=figure, threshold=threshold, held=held, **(default | more))


def value(name, share, control=None, rows=100):
    return Contribution(value=name, rows=rows, share=share, control=control)


RENAMED = [value("A", 0.07, 0.17), value("X", 0.1), value("B", 0.51, 0.5)]


def test_a_renamed_value_is_one_cause_whatever_has_seen_it():
    reasons = [
        reason("schema", figure="Unexpected string values", threshold="the curated schema", values=[value("X", 0.1)]),
        *(reason(control=control, values=RENAMED) for control in ("last_accepted", "production", "same_weekday")),
        reason("max_unseen_share", figure=0.1, values=[value("X", 0.1)], action="Look whether values were renamed."),
        reason("min_rows", "", 5000, 1000, held=False),
    ]
    [cause] = causes(reasons)
    assert cause.headline == "company: A fell from 17 % to 7 %, new value X at 10 %: renamed?"
    assert sorted(one.value for one in cause.values) == ["A", "B", "X"], "each value once"
    assert len(cause.reasons) == 5 and cause.action.startswith("Ask the source's owner whether")


@pytest.mark.parametrize(
    "values, words",
    [
        (
            [value("Cash", 0.64, 0.73), value("Card", 0.36, 0.26)],
            "Cash fell from 73 % to 64 %, Card rose from 26 % to 36 %",
        ),
        ([value("A", 0.0, 0.17, rows=0), value("X", 0.17)], "A, 17 % before, is gone, new value X at 17 %: renamed?"),
        (
            [value("X", 0.1), value("Y", 0.05), value("A", 0.8, 0.95)],
            "A fell from 95 % to 80 %, new value X at 10 % and 1 more",
        ),
        ([value("", 0.3, 0.1)], "(empty) rose from 10 % to 30 %"),
        ([], ""),
    ],
)
def test_how_shares_moved_is_said_in_a_few_words(values, words):
    assert moved(values) == words


def test_the_delivery_comes_first_since_the_rest_may_follow_from_it():
    reasons = [
        reason("drift", "fare", 0.9, 0.1, message="fare is far"),
        reason("max_missing_days", "day", 3, 0, message="3 days have no rows"),
        reason("min_rows", "", 900, 1000, message="the snapshot has 900 rows; at least 1,000 are required"),
    ]
    first, second = causes(reasons)
    assert (first.kind, first.subject, len(first.reasons)) == ("delivery", "", 2)
    assert second.subject == "fare"


def test_a_feature_of_the_requests_is_another_cause_than_that_of_the_data():
    reasons = [reason("skew", "fare", control="serving"), reason("drift", "fare", control="last_accepted")]
    assert {(cause.kind, cause.subject) for cause in causes(reasons)} == {("serving", "fare"), ("feature", "fare")}


def test_what_the_model_gate_found_is_one_cause_led_by_the_whole():
    reasons = [
        reason("auc", "company=A", 0.4, 0.6, message="auc of company=A is 0.4000; at least 0.6 is wanted"),
        reason(
            "auc against production", "all examples", -0.4, -0.02, message="auc is 0.5500, and 0.9500 in production"
        ),
        reason("auc", "all examples", 0.55, 0.6, message="auc is 0.5500; at least 0.6 is required"),
    ]
    [cause] = causes(reasons)
    assert cause.headline == "auc is 0.5500, at least 0.6 is required; 3 of its metrics are not good enough"


def test_a_metric_is_of_the_model_even_if_it_has_the_name_of_a_check_of_data():
    [cause] = causes([reason("max_recall", "all examples", 0.4, 0.6), reason("recall:min", "all examples", 0.4, 0.6)])
    assert (cause.kind, cause.title) == ("model", "The model")


def test_what_is_surely_not_good_enough_leads_and_what_cannot_be_told_follows():
    open_ = reason(
        "accuracy against production", "all examples", -0.01, -0.02, message="accuracy; 90 examples cannot tell"
    ).model_copy(update={"undecided": True})
    of_class = reason("recall:Cash", "all examples", 0.1, 0.6, message="recall of class Cash is 0.1000")
    constant = reason("better_than_constant", "all examples", -0.1, 0, message="the model is worse by 0.1000")
    [cause] = causes([open_, of_class, constant])
    assert cause.headline == "the model is worse by 0.1000; 3 of its metrics are not good enough"
    [cause] = causes([open_, open_.model_copy(update={"subject": "city=A"})])
    assert cause.headline == "accuracy, 90 examples cannot tell; 2 of its metrics are undecided"


def test_a_change_of_the_label_and_a_column_that_is_gone_are_said_plainly():
    label = reason("max_label_change", "tip", 0.07, values=[value("1", 0.24, 0.17)])
    gone = reason("schema", "pay", "Column dropped", "the curated schema", message="pay: Column is completely missing")
    assert {cause.headline for cause in causes([label, gone])} == {
        "tip: 24 % are positive, 17 % before",
        "pay: the column is gone",
    }


def test_a_change_of_classes_or_numbers_is_said_by_what_changed():
    in_control = "in the last accepted snapshot (2015-05-31)"
    classes = reason(
        *("max_label_change", "pay", 0.36),
        values=[value("Cash", 0.994, 0.636)],
        message=f"99.4% of pay are 'Cash', 63.6% {in_control}: a change of 35.8%; 5.0% is allowed",
    )
    numbers = reason(
        *("max_label_change", "fare", 0.99),
        values=[value("up to 175", 0.005, 1.0)],
        message=f"0.5% of fare are up to 175, 100.0% {in_control}: a change of 99.5%; 5.0% is allowed; its median is "
        "805 (from 0 to 17,505), and was 8.05 (from 0 to 175.05)",
    )
    by_value = reason(
        *("max_label_change_by_value", "company", 0.4, 0.25),
        values=[value("A", 0.99, 0.57)],
        message=f"where company is A, 99.0% of the labels are 'Cash', 57.0% {in_control}",
    )
    found = {cause.subject: cause for cause in causes([classes, numbers, by_value])}
    assert found["pay"].headline == "pay: 99 % are 'Cash', 64 % before"
    assert found["fare"].headline == "fare: its median is 805 (from 0 to 17,505), and was 8.05 (from 0 to 175.05)"
    assert found["company"].changed_label == "'Cash'" and found["company"].labels == by_value.values


def test_what_a_finding_says_in_fields_is_not_read_out_of_its_message():
    label = reason("max_label_change", "pay", 0.36, message="in other words", headline="pay: 99 % are 'Cash'")
    by_value = reason("max_label_change_by_value", "city", 0.4, message="in other words", label="'Cash'")
    scale = reason("max_scale_factor", "fare", 9.0, message="far; 5 is allowed", headline="fare; 4 are allowed")
    found = {cause.subject: cause for cause in causes([label, by_value, scale])}
    assert found["pay"].headline == "pay: 99 % are 'Cash'"
    assert found["city"].changed_label == "'Cash'"
    assert found["fare"].headline == "fare; 4 are allowed"


def test_weights_are_a_cause_of_their_column():
    [cause] = causes([reason("weights", "w", 3, 0, message="the weight w is negative, in 3 rows: -1.0 in rows-0:7")])
    assert (cause.kind, cause.subject) == ("feature", "w")
    assert cause.headline == "the weight w is negative, in 3 rows: -1.0 in rows-0:7"


def test_a_long_list_of_causes_is_named_and_not_told():
    found = causes(
        [reason(subject=name, figure=0.9 - n / 10, message=f"{name} is far") for n, name in enumerate("abcde")]
    )
    assert headline(found) == "a is far; and 4 more causes: b, c, d, …"
    assert headline(found[:2]) == "a is far; b is far"
