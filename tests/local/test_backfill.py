"""SQLite's refusal of a writer whose view is stale, and the turns that avoid it."""

import os
import shutil
import sqlite3
import subprocess
import threading

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from include.contracts.places import ROOT
from local.backfill import take_turns


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "airflow.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE runs (name TEXT)")
    return path


def scheduler_writes(database):
    connection = sqlite3.connect(database, timeout=30)
    connection.execute("INSERT INTO runs VALUES ('scheduled')")
    connection.commit()
    connection.close()


def backfill(engine, between):
    """What Airflow does for a run: a savepoint, a look, and then the run; `between` happens after the look."""
    with engine.connect() as connection:
        with connection.begin_nested():
            connection.execute(text("SELECT count(*) FROM runs")).scalar()
            between()
            connection.execute(text("INSERT INTO runs VALUES ('backfill')"))
        connection.commit()


def test_sqlite_refuses_a_writer_whose_view_is_stale(database):
    with pytest.raises(OperationalError, match="database is locked"):
        backfill(create_engine(f"sqlite:///{database}"), lambda: scheduler_writes(database))


def test_with_turns_both_write(database):
    engine = create_engine(f"sqlite:///{database}")
    take_turns(engine)
    scheduler = threading.Thread(target=scheduler_writes, args=[database])
    backfill(engine, scheduler.start)
    scheduler.join()
    with sqlite3.connect(database) as connection:
        assert {name for (name,) in connection.execute("SELECT name FROM runs")} == {"backfill", "scheduled"}


@pytest.mark.parametrize(
    ("words", "run"),
    [
        ("backfill create --dag-id taxi_retrain", "python -m local.backfill backfill create --dag-id taxi_retrain"),
        ("backfill list", "airflow backfill list"),
        ("dags list", "airflow dags list"),
    ],
)
def test_the_command_line_takes_turns_when_a_backfill_is_created(tmp_path, words, run):
    shutil.copytree(ROOT / "bin", tmp_path / "bin")
    shutil.copy(ROOT / "airflow.env", tmp_path)
    programs = tmp_path / ".venv/airflow/bin"
    programs.mkdir(parents=True)
    for name in ("airflow", "python"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "NIGHTLY_VAR": str(tmp_path / "var")}
    said = subprocess.run([tmp_path / "bin/airflow", *words.split()], env=environment, capture_output=True, text=True)
    assert said.stdout.strip() == run
