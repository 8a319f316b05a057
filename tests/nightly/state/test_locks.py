"""Locks between hosts, by a real PostgreSQL server."""

import os
import subprocess
import sys

import pytest

from nightly.io.paths import python_path
from nightly.state.errors import StateNotReachedError
from nightly.state.postgres_locks import LocksNotConfiguredError
from tests.support.postgresql import break_locks, running_database


@pytest.fixture(scope="module")
def database():
    with running_database() as running:
        yield running


@pytest.fixture
def locks(hosts, database, monkeypatch):
    monkeypatch.setenv("NIGHTLY_METADATA_DB", database.url("postgres"))
    return hosts


def test_a_lock_is_held_on_one_host_at_a_time(locks):
    waits = []
    with locks.on("a") as (state, var):
        lock = var / "releases/taxi/.lock"
        with state.locked(lock), locks.on("b") as (other, others):
            same = others / "releases/taxi/.lock"
            with pytest.raises(BlockingIOError), other.locked(same, wait=False, on_wait=lambda: waits.append(1)):
                pass
            with other.locked(others / "releases/digits/.lock", wait=False):
                pass
        with locks.on("b") as (other, others), other.locked(same, wait=False):
            pass
    assert not waits


def test_a_lock_that_was_lost_is_noticed(locks, database):
    with locks.on("a") as (state, var), state.locked(var / "releases/taxi/.lock"):
        state.check_locks()
        break_locks(database.url("postgres"))
        with pytest.raises(StateNotReachedError, match=r"The lock s3://\S+/releases/taxi/.lock was lost") as error:
            state.check_locks()
        assert database.password not in str(error.value)
    state.check_locks()  # it is held no more


HOLD = """
import sys, time
from nightly.io.paths import Paths
from nightly.state import current
with current().locked(Paths.from_environment().releases / "taxi/.lock"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_ends_with_its_process_and_is_waited_for(locks, tmp_path):
    environment = {**os.environ, "PYTHONPATH": python_path(), "NIGHTLY_VAR": str(tmp_path / "other")}
    child = subprocess.Popen([sys.executable, "-c", HOLD], env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    with locks.on("a") as (state, var), state.locked(var / "releases/taxi/.lock", on_wait=child.kill):
        assert child.wait() != 0


def test_a_bucket_without_a_database(hosts, monkeypatch):
    monkeypatch.delenv("NIGHTLY_METADATA_DB", raising=False)
    with (
        hosts.on("a") as (state, var),
        pytest.raises(LocksNotConfiguredError, match="set NIGHTLY_METADATA_DB to postgresql://user:password@host"),
        state.locked(var / "releases/taxi/.lock"),
    ):
        pass


def test_a_database_that_does_not_answer(hosts, monkeypatch):
    monkeypatch.setenv("NIGHTLY_METADATA_DB", "postgresql://user:planted-secret@127.0.0.1:9/x")
    with (
        hosts.on("a") as (state, var),
        pytest.raises(StateNotReachedError, match="gives no lock") as error,
        state.locked(var / "releases/taxi/.lock"),
    ):
        pass
    assert "planted-secret" not in str(error.value)
