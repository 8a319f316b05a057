"""The rollback's form and run, through Airflow's task runner and the real step in the ML environment."""

import datetime as dt
from pathlib import Path

import pytest

from nightly.records.release import Rollback
from nightly.release.store import ReleaseStore
from tests.support.releases import origin

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_700_000_000


@pytest.fixture
def rollback(database):
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(ROOT / "dags" / "rollback.py")).dags["rollback"]


@pytest.fixture
def store(paths, tmp_path) -> ReleaseStore:
    """Two versions of taxi."""
    store = ReleaseStore(paths.serving, paths.releases, "taxi")
    (tmp_path / "export").mkdir()
    for i in range(2):
        (tmp_path / "export" / "saved_model.pb").write_text(f"model {i}")
        store.release(tmp_path / "export", origin(f"run-{i}"), now=NOW + i)
    return store


def test_the_form_brings_the_version_before_back_and_records_who_and_why(rollback, store, tmp_path):
    done = rollback.test(
        run_conf={"model": "taxi", "version": "previous", "reason": "it says yes to all"},
        logical_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )

    assert done.state == "success"
    assert store.disk.production() == NOW
    assert "it says yes to all" in store.disk.record(NOW + 1).why
    [kept] = (tmp_path / "var/releases/taxi/rollbacks").glob("*.json")
    record = Rollback.load(kept)
    assert (record.version, record.from_version, record.withdrawn) == (NOW, NOW + 1, [NOW + 1])
    assert record.requested_by and record.run_id == done.run_id


def test_a_version_that_is_not_there_fails_and_says_which_there_are(rollback, store, tmp_path):
    done = rollback.test(
        run_conf={"model": "taxi", "version": "1600000000", "reason": "why not"},
        logical_date=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    )
    assert done.state == "failed" and store.disk.production() == NOW + 1
    [error] = (tmp_path / "var/nights/taxi").glob("*/rollback.error.json")
    assert f"there are: {NOW}, {NOW + 1}" in error.read_text()


def test_a_key_that_the_form_does_not_have_takes_nothing_back(rollback, store, tmp_path):
    done = rollback.test(
        run_conf={"model": "taxi", "vrsion": str(NOW), "reason": "complaints"},
        logical_date=dt.datetime(2026, 1, 3, tzinfo=dt.UTC),
    )
    assert done.state == "failed" and store.disk.production() == NOW + 1
    [error] = (tmp_path / "var/nights/taxi").glob("*/rollback.error.json")
    assert "vrsion: there is no such key; did you mean 'version'?" in error.read_text()


@pytest.mark.parametrize("bad", [{"version": "newest"}, {"reason": ""}, {"model": "taxy"}])
def test_the_form_refuses_what_makes_no_sense(rollback, bad):
    [(name, value)] = bad.items()
    with pytest.raises(Exception, match="Failed validating"):
        rollback.params.get_param(name).resolve(value)
