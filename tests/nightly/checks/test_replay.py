"""Proposed thresholds over findings of the past: which nights they would have held, and which thresholds fit."""

import datetime as dt

import pytest

from nightly.cli.replay import main
from nightly.nights import replay
from nightly.nights.history import findings
from nightly.records.night import GateResult, Reason
from tests.support.nights import a_night

START = dt.datetime(2015, 5, 1, tzinfo=dt.UTC)
NIGHTS = 40


def reason(check, subject, figure, threshold, control="", **more):
    held = replay.is_number(figure) and replay.breaks_threshold(check, figure, threshold)
    return Reason(
        check=check, subject=subject, figure=figure, threshold=threshold, control=control, message="", held=held, **more
    )


@pytest.fixture
def paths(paths):
    """Forty nights: cash drifts by 0.010 to 0.049, one is a break; a small one says nothing; each has 4,000 rows on."""
    for number in range(NIGHTS):
        as_of = START + dt.timedelta(days=number)
        night = a_night(run_id=f"night-{number:02d}", trigger="scheduled", as_of=as_of)
        drift = 0.3 if number == 20 else 0.010 + number / 1000
        reasons = [
            reason("min_rows", "", 4000 + number, 600),
            reason("drift", "payment_type", drift, 0.05, "last_accepted", sample=3000, enough=300),
            reason("drift", "payment_type", drift * 2, 0.075, "production", sample=3000, enough=300),
            reason("drift", "company", 0.5, 0.04, "last_accepted", sample=100, enough=300).model_copy(
                update={"held": False}
            ),
        ]
        if number == 30:
            anomaly = reason("schema", "fare", "Column dropped", "the curated schema")
            reasons.append(anomaly.model_copy(update={"held": True}))
        night.save(night.folder(paths) / "request.json")
        passed = not any(one.held for one in reasons)
        result = GateResult(gate="data", passed=passed, reasons=reasons, decided_at=as_of)
        result.save(night.folder(paths) / "data_gate.json")
    return paths


def held(paths, **proposed):
    thresholds = replay.Thresholds.of("taxi", {key.replace("__", "."): value for key, value in proposed.items()})
    return replay.replay(findings(paths, "taxi"), thresholds)


def test_findings_are_in_the_order_of_the_nights(paths):
    nights = [each.night for each in findings(paths, "taxi")]
    assert len(nights) == NIGHTS and nights[0].run_id == "night-00"
    assert [night.as_of for night in nights] == sorted(night.as_of for night in nights)


def test_the_thresholds_of_today_hold_what_was_held(paths):
    was = {n for n, night in enumerate(findings(paths, "taxi")) if not night.result.passed}
    assert set(held(paths)) == was == {20, *range(28, 40)}


def test_a_proposal_holds_more_or_less_and_says_for_what(paths):
    assert set(held(paths, drift__payment_type=0.1)) == {20, 30}  # times 1.5 against production
    assert [r.check for r in held(paths, drift__payment_type=0.1)[30]] == ["schema"]
    assert len(held(paths, data_gate__min_rows=4010, drift__payment_type=1)) == 10 + 1
    looser = held(paths, drift__payment_type=0.1, data_gate__min_rows_for_distance=50)
    assert len(looser) == NIGHTS, "the small sample's 0.5 is judged then"
    no_production = held(paths, drift__payment_type=0.04, data_gate__controls__production=100)
    assert {r.control for reasons in no_production.values() for r in reasons} <= {"last_accepted", ""}


def test_what_chance_explains_holds_under_no_threshold():
    change = reason("max_label_change_by_value", "hour", 0.28, 0.29, "last_accepted", chance=0.29)
    thresholds = replay.Thresholds.of("taxi", {"data_gate.max_label_change_by_value": 0.25})
    assert not change.held and not thresholds.holds(change)
    assert thresholds.holds(change.model_copy(update={"chance": 0.27}))


def test_what_chance_explains_suggests_nothing(paths):
    nights = [night for night in findings(paths, "taxi") if night.result.passed]
    change = reason("max_label_change_by_value", "hour", 0.28, 0.29, "last_accepted", chance=0.29)
    for night in nights:
        night.result.reasons.append(change)
    thresholds = replay.Thresholds.of("taxi", {})
    assert "data_gate.max_label_change_by_value" not in replay.suggest(nights, thresholds)
    nights[0].result.reasons.append(change.model_copy(update={"figure": 0.32}))
    assert "data_gate.max_label_change_by_value" in replay.suggest(nights, thresholds)


def test_what_it_suggests_passes_the_nights_that_passed(paths):
    nights = findings(paths, "taxi")
    found = replay.suggest(nights, replay.Thresholds.of("taxi", {}))
    assert set(found) == {"data_gate.min_rows", "drift.payment_type"}, "figures of too few rows are not drawn from"
    threshold, figures = found["drift.payment_type"]
    assert threshold == pytest.approx(0.062, abs=0.002) and figures == 2 * 27
    assert found["data_gate.min_rows"][0] == 3200
    again = held(paths, **{key.replace(".", "__"): value for key, (value, _) in found.items()})
    assert not [n for n in again if nights[n].result.passed]


def test_the_command_says_which_nights_and_why(paths, capsys):
    assert main(["taxi", "--set", "drift.payment_type=0.1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("would have held 2 of 40 nights (13 were held)\n")
    assert "2015-05-21  night-20: held, would hold\n    drift payment_type against last_accepted: 0.3\n" in said
    assert "2015-06-09  night-39: held, would pass" in said
    assert main(["taxi", "--suggest"]) == 0
    assert "drift.payment_type" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["taxi", "--set", "data_gate.min_row=1"], "did you mean 'min_rows'"),
        (["taxi", "--set", "drift.trip_start_month=1"], "the schema has a drift comparator for"),
        (["taxi", "--set", "data_gate.min_rows"], "give KEY=NUMBER"),
        (["taxis"], "did you mean 'taxi'"),
    ],
)
def test_a_proposal_that_makes_no_sense_is_refused(paths, capsys, words, said):
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_no_nights_yet(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path))
    assert main(["taxi"]) == 0
    assert "has no nights yet" in capsys.readouterr().out
