"""bin/new: models of tables in a lake or a database, and of dated files on a web server."""

import datetime as dt
import io
import sqlite3
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pyarrow.csv
import pytest
from deltalake import write_deltalake

from nightly.io.errors import UserError
from nightly.models import load_config
from nightly.new_model.creating import create, source_of
from nightly.new_model.proposal import Wishes
from nightly.new_model.questions import Questions
from nightly.new_model.telling import show_proposal
from nightly.records.connection import Connection, variable
from nightly.sources import fetch
from nightly.sources.cloud_credentials import store_options
from tests.nightly.new_model.data import rentals
from tests.support.s3_server import S3Server


@pytest.fixture
def new(tmp_path, monkeypatch):
    """Write a model of a source; return its config."""
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    models, dags = tmp_path / "models", tmp_path / "dags"
    models.mkdir(), dags.mkdir()

    def run(source):
        wishes = Wishes(label="returned_late")
        run.created.append(
            create("bikes", source, wishes, Questions(True), origin="the data", models=models, dags=dags)
        )
        return load_config("bikes", models=models)

    run.created = []
    return run


def table_of(rows):
    return pyarrow.csv.read_csv(io.BytesIO(rows.encode()))


def test_the_folder_of_a_delta_table_is_a_table(new, tmp_path):
    write_deltalake(str(tmp_path / "lake"), table_of(rentals(300)))
    source = new(source_of(str(tmp_path / "lake"))).source
    assert (source.kind, source.format, source.path) == ("table", "delta", str(tmp_path / "lake"))


def test_a_delta_table_in_a_bucket_is_a_table(new, monkeypatch):
    s3 = S3Server()
    try:
        connection = s3.connection()
        options = store_options(connection, "s3").for_delta()
        write_deltalake("s3://lake/rentals", table_of(rentals(300)), storage_options=options)
        monkeypatch.setenv(variable("lake"), connection.dump())
        source = new(source_of("s3://lake/rentals/", "lake")).source
        assert (source.kind, source.format, source.path) == ("table", "delta", "s3://lake/rentals/")
        assert source.connection == "lake"
    finally:
        s3.stop()


@pytest.fixture
def web(tmp_path):
    """A server of the files in `folder`; `asked` has the status of each answer."""

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path))

        def log_request(self, code="-", size="-"):
            server.asked.append(int(code))

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.folder, server.asked, server.daemon_threads = tmp_path, [], True
    server.url = f"http://127.0.0.1:{server.server_address[1]}/"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def put_rentals(folder, moments, path):
    """Write ten rentals for each of these times, at its path."""
    header, *lines = rentals(10 * len(moments)).splitlines(keepends=True)
    for number, moment in enumerate(moments):
        rows = [line.split(",") for line in lines[number * 10 : number * 10 + 10]]
        body = "".join(",".join([row[0], f"{moment:%Y-%m-%d} {row[1][11:]}", *row[2:]]) for row in rows)
        (folder / f"{moment:{path}}").write_text(header + body)


def test_dates_on_a_web_server_are_asked_for_from_today_backwards(new, web, monkeypatch):
    now = dt.datetime.now(dt.UTC)
    days = [now - dt.timedelta(days=30 - number + (5 if number < 20 else 0)) for number in range(30)]
    put_rentals(web.folder, days, "%Y-%m-%d.csv")
    monkeypatch.setattr("nightly.new_model.creating.GAP", dt.timedelta(days=20))
    path = web.url + "{date:%Y-%m-%d}.csv"
    source, created = new(source_of(path)).source, new.created[-1]
    assert (source.path, created.proposal.table.rows) == (path, 300)
    assert web.asked.count(200) <= 33 and len(web.asked) < 100


def test_hours_on_a_web_server_are_found_behind_days_without_a_file(new, web, monkeypatch):
    now = dt.datetime.now(dt.UTC)
    hours = [now - dt.timedelta(hours=12 * number, days=14 if number < 20 else 21) for number in range(30)]
    put_rentals(web.folder, hours, "%Y-%m-%d-%H.csv")
    monkeypatch.setattr("nightly.new_model.creating.GAP", dt.timedelta(days=20))
    new(source_of(web.url + "{date:%Y-%m-%d-%H}.csv"))
    assert new.created[-1].proposal.table.rows == 300


def test_a_web_server_whose_files_are_too_old_or_not_there_is_said(new, web, monkeypatch):
    now = dt.datetime.now(dt.UTC)
    put_rentals(web.folder, [now - dt.timedelta(days=40)], "%Y-%m-%d-%H.csv")
    monkeypatch.setattr("nightly.new_model.creating.GAP", dt.timedelta(days=20))
    monkeypatch.setattr("nightly.new_model.creating.MAX_DATES", 600)
    since = f"{now - dt.timedelta(days=20):%Y-%m-%d}"
    with pytest.raises(UserError, match=rf"%H\}}\.csv has no file from {since} to today.*download the files into a fo"):
        new(source_of(web.url + "{date:%Y-%m-%d-%H}.csv?key=planted"))
    assert set(web.asked) == {404} and 480 <= len(web.asked) <= 482


@pytest.fixture
def sqlite(tmp_path, monkeypatch):
    """Write the rentals to a table of SQLite, with their times in a format; return [source]."""

    def write(time_format, **changed):
        """
        :param changed: a column -> its value, for each row
        """
        lines = rentals(300).splitlines()[1:]
        monkeypatch.setenv(variable("shop"), Connection(conn_type="sqlite", host=str(tmp_path / "shop.db")).dump())
        with sqlite3.connect(tmp_path / "shop.db") as database:
            database.execute(
                "CREATE TABLE rentals (rental_id INTEGER, started_at TEXT, station TEXT, minutes REAL, "
                f"{''.join(f'{column!r}, ' for column in changed)}returned_late TEXT)"
            )
            for line in lines:
                number, start, station, minutes, late = line.split(",")
                start = dt.datetime.fromisoformat(start).strftime(time_format)
                row = [int(number), start, station, minutes, *(value(number) for value in changed.values()), late]
                database.execute(f"INSERT INTO rentals VALUES ({', '.join('?' * len(row))})", row)
        return source_of("", "shop", "rentals")

    return write


def first_night(config, folder, start=dt.datetime(2026, 2, 1, tzinfo=dt.UTC), run_id="first"):
    connection = Connection.from_environment(config.source.connection)
    window = {"window_start": start, "window_end": start + dt.timedelta(days=7)}
    return fetch(config.source, **window, folder=folder, data=config.data, connection=connection, run_id=run_id)


def test_times_that_end_in_z_are_a_format_that_a_night_can_select_days_by(new, sqlite, tmp_path):
    config = new(sqlite("%Y-%m-%dT%H:%M:%SZ"))
    assert config.data.time_format == "%Y-%m-%dT%H:%M:%SZ"
    assert len(first_night(config, tmp_path / "downloads").files) == 7
    text = (tmp_path / "models/bikes/config.toml").read_text()
    assert "# ? Every night reads its whole window again." in text and "# settled_days = 14" in text


def test_times_that_do_not_sort_are_refused_before_a_model_is_written(new, sqlite, tmp_path):
    with pytest.raises(UserError, match=r"does not sort by time.*--time none"):
        new(sqlite("%m/%d/%Y"))
    assert not list((tmp_path / "models").iterdir())


def test_the_column_of_changes_is_proposed_and_the_next_night_reads_what_has_changed(new, sqlite, tmp_path, capsys):
    moment = dt.datetime(2026, 4, 20)
    config = new(sqlite("%Y-%m-%d %H:%M:%S", **{"Last Modified": lambda n: f"{moment + dt.timedelta(minutes=int(n))}"}))
    assert config.source.changed_at == "Last Modified"
    text = (tmp_path / "models/bikes/config.toml").read_text()
    assert "# ? By its name, this column says when a row last changed" in text and "settled_days" not in text
    show_proposal(new.created[-1].proposal)
    assert "changes    Last Modified, by its name" in capsys.readouterr().out
    assert first_night(config, tmp_path / "downloads").reused == 0
    with sqlite3.connect(tmp_path / "shop.db") as database:
        changed = "UPDATE rentals SET \"Last Modified\" = '2026-05-01 00:00:00' WHERE started_at LIKE '2026-02-03%'"
        database.execute(changed)
    assert first_night(config, tmp_path / "downloads", run_id="second").reused == 6


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status_changed_at", lambda n: f"2026-04-{int(n) % 28 + 1:02}"),
        ("updated", lambda n: int(n)),
        ("updated_at", lambda n: f"{int(n) % 12 + 1:02}/20/2026"),
    ],
)
def test_a_column_that_may_not_tell_every_change_is_not_proposed(new, sqlite, column, value):
    assert new(sqlite("%Y-%m-%d %H:%M:%S", **{column: value})).source.changed_at == ""
