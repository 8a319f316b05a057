"""Which accepted snapshot a night is compared with, by each control's name; and which are kept."""

import datetime as dt

from nightly.baselines import accept, controls_of, retain, rows_accepted, snapshots_of
from nightly.records.baseline import Baseline
from tests.support.nights import a_night
from tests.support.records import release_record

NIGHT = dt.datetime(2016, 3, 1, 3, tzinfo=dt.UTC)
ALL = {"last_accepted": 1, "production": 1.5, "same_weekday": 1.5, "same_season": 3}


def night(**changes):
    return a_night(**{"as_of": NIGHT, **changes})


def accepted(paths, tmp_path, days_before, rows=None):
    statistics = tmp_path / "statistics"
    (statistics / "Split-train").mkdir(parents=True, exist_ok=True)
    as_of = NIGHT - dt.timedelta(days=days_before)
    baseline = Baseline(
        model="taxi",
        run_id=f"{days_before} days before",
        as_of=as_of,
        snapshot_id=f"{days_before:032d}"[::-1],
        accepted_at=as_of,
        rows=rows,
    )
    accept(paths.baselines, baseline, statistics)
    return baseline


def released(paths, baseline, version=17):
    release_record(
        version=version, run_id="another try of that night", snapshot_id=baseline.snapshot_id, released_at=NIGHT
    ).save(paths.releases / "taxi" / f"{version}.json")


def found(paths, **changes):
    controls = controls_of(paths, night(**changes), ALL)
    return {one.name: one.baseline.run_id if one.baseline else one.missing for one in controls}


def test_each_control_is_found_by_its_name(paths, tmp_path):
    for days in (1, 2, 7, 27, 28, 35, 63, 350, 362, 380, 700, -1):
        baseline = accepted(paths, tmp_path, days)
        if days == 27:
            released(paths, baseline)
    assert found(paths, production_version=17) == {
        "last_accepted": "1 days before",
        "production": "27 days before",
        "same_weekday": "28 days before",
        "same_season": "362 days before",
    }


def test_a_missing_control_says_why(paths, tmp_path):
    assert found(paths) == {
        "last_accepted": "no snapshot from before this night has been accepted yet",
        "production": "no model is in production yet",
        "same_weekday": "no snapshot of the same weekday has been accepted 4 to 8 weeks before",
        "same_season": "no snapshot has been accepted a year before, give or take two weeks",
    }
    assert "has no release record" in found(paths, production_version=17)["production"]
    released(paths, accepted(paths, tmp_path, -1))  # a backfill: production is of later data than this night's
    assert "no statistics from before this night are kept" in found(paths, production_version=17)["production"]


def test_a_damaged_baseline_costs_no_later_night(paths, tmp_path, caplog):
    accepted(paths, tmp_path, 2)
    accepted(paths, tmp_path, 1)
    damaged = max((paths.baselines / "taxi").glob("*/baseline.json"))
    damaged.write_bytes(damaged.read_bytes().replace(b'"model"', b'"m\x8fdel"', 1))
    assert found(paths)["last_accepted"] == "2 days before"
    assert str(damaged) in caplog.text
    assert len(snapshots_of(paths.baselines, "taxi")) == 1
    accepted(paths, tmp_path, 1)  # the same night again
    assert found(paths)["last_accepted"] == "1 days before"
    damaged.unlink()
    assert found(paths)["last_accepted"] == "2 days before"
    accepted(paths, tmp_path, 1)
    assert found(paths)["last_accepted"] == "1 days before"


def test_a_clock_that_changes_by_an_hour_leaves_the_weekday(paths, tmp_path):
    accepted(paths, tmp_path, 28)
    assert found(paths, as_of=NIGHT + dt.timedelta(hours=1))["same_weekday"] == "28 days before"


def test_the_usual_rows_are_of_earlier_nights_that_know_them(paths, tmp_path):
    for days, rows in ((3, 100), (2, None), (1, 120), (-1, 999)):
        accepted(paths, tmp_path, days, rows)
    assert rows_accepted(paths.baselines, night()) == [100, 120]


def test_retention_keeps_the_latest_and_what_is_released(paths, tmp_path):
    old = [accepted(paths, tmp_path, days) for days in range(9, 0, -1)]
    retain(paths.baselines, "taxi", 3, {old[0].snapshot_id})
    left = {Baseline.load(path).run_id for path in (paths.baselines / "taxi").glob("[0-9]*/baseline.json")}
    assert left == {"9 days before", "3 days before", "2 days before", "1 days before"}
    assert len(list((paths.baselines / "taxi").iterdir())) == 4


def test_a_baseline_of_an_older_version_still_loads():
    text = '{"model": "taxi", "run_id": "r", "as_of": "2016-01-01T00:00:00Z", "snapshot_id": "s", '
    text += '"accepted_at": "2016-01-01T00:00:00Z"}'
    assert Baseline.parse(text, where="a test").rows is None
