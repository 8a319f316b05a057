"""SQLite's refusal of a writer whose view is stale, and the turns that avoid it."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from local.backfill import take_turns
from nightly.io.paths import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.slow]


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
    programs = tmp_path / "elsewhere/airflow/bin"
    programs.mkdir(parents=True)
    for name in ("airflow", "python"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "NIGHTLY_VAR": str(tmp_path / "var")}
    environment["NIGHTLY_VENVS"] = str(tmp_path / "elsewhere")
    said = subprocess.run([tmp_path / "bin/airflow", *words.split()], env=environment, capture_output=True, text=True)
    assert said.stdout.strip() == run


@pytest.mark.parametrize("script", ["airflow", "report", "night"])
def test_a_command_without_its_environment_says_what_to_do_in_one_line(tmp_path, script):
    environment = {"PATH": os.environ["PATH"], "NIGHTLY_VAR": str(tmp_path), "NIGHTLY_VENVS": str(tmp_path)}
    done = subprocess.run([ROOT / f"bin/{script}", "dags", "list"], env=environment, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert (
        line.startswith(f"bin/{script}: error: {tmp_path}/") and "does not exist; set it up with `make setup`" in line
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An Airflow with the project's DAGs in its database, as paused as new DAGs are; its environment."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "NIGHTLY_"))}
    environment |= {"NIGHTLY_VAR": str(home), "AIRFLOW_HOME": str(home)}
    for words in ("db migrate", "dags reserialize"):
        subprocess.run([ROOT / "bin/airflow", *words.split()], env=environment, check=True, capture_output=True)
    return environment


def create(home, *words):
    days = ["--from-date", "2015-05-01", "--to-date", "2015-05-02"]
    command = [ROOT / "bin/airflow", "backfill", "create", "--dag-id", "taxi_retrain", *days, *words]
    done = subprocess.run(command, env=home, capture_output=True, text=True)
    with sqlite3.connect(f"{home['AIRFLOW_HOME']}/airflow.db") as database:
        runs = database.execute("SELECT count(*) FROM dag_run").fetchone()[0]
    return done.returncode, done.stdout + done.stderr, runs


def test_a_backfill_of_a_paused_dag_is_refused_with_both_ways_out_and_creates_nothing(home):
    status, said, runs = create(home)
    assert (status, runs) == (1, 0)
    assert "taxi_retrain is paused" in said and "bin/airflow dags unpause taxi_retrain" in said
    assert "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE=False" in said
    assert create(home, "--dry-run")[0] == 0


def test_a_backfill_whose_conf_has_a_key_that_the_form_has_not_is_refused(home):
    status, said, runs = create(home, "--dag-run-conf", '{"relaese": "yes"}')
    assert (status, runs) == (1, 0) and "no such key as 'relaese'; did you mean 'release'?" in said


def test_a_backfill_of_an_unpaused_dag_is_created(home):
    subprocess.run([ROOT / "bin/airflow", "dags", "unpause", "taxi_retrain", "--yes"], env=home, check=True)
    status, said, runs = create(home, "--dag-run-conf", '{"release": "yes"}')
    assert (status, runs) == (0, 1), said  # of the one night that both begins and ends in that time


def test_make_up_refuses_a_port_that_is_none():
    done = subprocess.run([sys.executable, "-m", "local.up", "0"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "'0' is not a whole number: give 1 to 65535" in done.stderr
