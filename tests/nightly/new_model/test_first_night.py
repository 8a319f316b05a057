"""From data to a first night, by bin/new and bin/night, in a copy of the project."""

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import tomllib

import pytest

from nightly.io.paths import ROOT, python_path
from nightly.records.connection import Connection, variable
from tests.nightly.new_model.data import ROWS, rentals

pytestmark = [pytest.mark.slow, pytest.mark.integration]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with its own state, and with this project's environments."""
    left_out = shutil.ignore_patterns(".git", ".venv", ".cache", "var", "__pycache__", "docs", "tests")
    copy = shutil.copytree(ROOT, tmp_path_factory.mktemp("copy") / "project", ignore=left_out)
    (copy / ".venv").symlink_to((ROOT / ".venv").resolve())
    return copy


def run(project, *command):
    environment = os.environ | {"PYTHONPATH": python_path(project), "NIGHTLY_VAR": str(project / "var")}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_a_first_night_is_green(project, tmp_path):
    """make bench ARGS=new_model does the same for public tables of every kind."""
    (tmp_path / "data.csv").write_text(rentals())
    status, output = run(project, "bin/new", "bikes", str(tmp_path / "data.csv"), "--label", "returned_late", "--yes")
    assert status == 0 and "bin/night bikes" in output, output
    status, output = run(project, "bin/night", "bikes")
    assert status == 0 and "ACCEPTED" in output, output


COLUMNS = "rental_id INTEGER, started_at {time}, station TEXT, minutes {real}, returned_late TEXT"


@pytest.fixture
def sqlite_shop(tmp_path):
    """The connection to a database of SQLite with the rentals."""
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute(f"CREATE TABLE rentals ({COLUMNS.format(time='TEXT', real='REAL')})")
        rows = list(csv.reader(rentals().splitlines()))[1:]
        database.executemany("INSERT INTO rentals VALUES (?, ?, ?, ?, ?)", rows)
    return Connection(conn_type="sqlite", host=str(tmp_path / "shop.db"))


@pytest.fixture
def postgresql_shop(tmp_path, database):
    """The connection to a database of PostgreSQL with the rentals."""
    (tmp_path / "rentals.csv").write_text(rentals())
    columns = COLUMNS.format(time="TIMESTAMPTZ", real="DOUBLE PRECISION")
    database.run("postgres", "DROP TABLE IF EXISTS rentals")
    database.run("postgres", f"CREATE TABLE rentals ({columns})")
    database.load_csv("postgres", "rentals", tmp_path / "rentals.csv")
    host, port = database.address.split(":")
    account = {"login": database.user, "password": database.password}
    return Connection(conn_type="postgres", host=host, port=int(port), schema="postgres", **account)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_table_of_a_database_gives_a_model_and_a_snapshot(project, kind, request, monkeypatch):
    monkeypatch.setenv(variable("shop"), request.getfixturevalue(f"{kind}_shop").dump())
    name = f"{kind}_bikes"
    data = ["--connection", "shop", "--table", "rentals"]
    status, output = run(project, "bin/new", name, *data, "--label", "returned_late", "--yes")
    assert status == 0 and f"bin/night {name}" in output, output
    config = tomllib.loads((project / "include/models" / name / "config.toml").read_text())
    assert config["source"]["kind"] == "sql" and config["data"]["time_column"] == "started_at"
    status, output = run(project, "bin/night", name, "--until", "snapshot")
    assert status == 0, output
    (night,) = (project / "var/nights" / name).iterdir()
    delivery = json.loads((night / "snapshot.json").read_text())["delivery"]
    assert (delivery["rows"], delivery["rejected"]) == (ROWS, [])
