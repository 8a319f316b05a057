"""Nights that fail early, or are killed, are told with their error: through Airflow, to a real receiver."""

import shutil

import pytest

from nightly.records.night import Night
from nightly.records.verdict import Outcome, Verdict
from nightly.release.store import ReleaseStore
from tests.support.dag_runs import told
from tests.support.releases import NOW, export, release

pytestmark = pytest.mark.slow


def test_a_night_that_cannot_be_planned_is_told_with_the_reason(run_night, slack):
    run_night(thresholds={"data_gate.min_row": 5}, reason="a thin month")
    assert "FAILED: plan failed" in told(slack) and "did you mean 'min_rows'?" in told(slack)
    assert "|The run in Airflow>" in told(slack)


def test_a_night_whose_step_is_killed_is_told_with_what_killed_it(run_night, slack):
    run_night({"data_gate": "die"})
    assert "FAILED: data_gate failed" in told(slack) and "SIGKILL" in told(slack)


def test_damaged_files_in_production_are_noticed_by_the_plan_and_told_whatever_becomes_of_the_night(
    run_night,
    slack,
    tmp_path,
):
    store = ReleaseStore(tmp_path / "var/serving", tmp_path / "var/releases", "taxi")
    version = release(store, export(tmp_path / "export")).version
    (store.disk.folder / str(version) / "saved_model.pb").write_bytes(b"half")

    state, note, _, folder = run_night()

    night, verdict = Night.load(folder / "request.json"), Verdict.load(folder / "verdict.json")
    assert (state, night.production_version, night.damaged_version) == ("success", None, version)
    assert (verdict.outcome, verdict.damage) == (Outcome.RELEASED, f"taxi {version} is damaged")
    assert f"taxi {version} is damaged" in told(slack) and f"taxi {version} is damaged" in note


def test_a_folder_in_production_that_is_gone_is_noticed_by_the_plan(run_night, slack, tmp_path):
    store = ReleaseStore(tmp_path / "var/serving", tmp_path / "var/releases", "taxi")
    release(store, export(tmp_path / "first"), "run-1", NOW)
    lost = release(store, export(tmp_path / "second", "b"), "run-2", NOW + 5)
    shutil.rmtree(lost.path)
    folder = run_night()[3]
    assert Night.load(folder / "request.json").damage and "is damaged" in told(slack)


def test_whole_files_in_production_start_no_repair(run_night, slack, tmp_path):
    store = ReleaseStore(tmp_path / "var/serving", tmp_path / "var/releases", "taxi")
    version = release(store, export(tmp_path / "export")).version
    folder = run_night()[3]
    assert Night.load(folder / "request.json").production_version == version and not slack


def test_a_released_night_is_not_told(run_night, slack):
    run_night()
    assert not slack
