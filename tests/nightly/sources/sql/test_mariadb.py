"""A table of MariaDB, which is read through SQLAlchemy."""

import datetime as dt

import pymysql
import pytest

from nightly.sources.errors import RefusedError
from nightly.sources.sql.alchemy import SAMPLE, Alchemy
from tests.nightly.sources.sql.conftest import Nights, rows
from tests.support.mariadb import running_mariadb

BOUNDS = {"window_start": dt.datetime(2016, 1, 1), "window_end": dt.datetime(2017, 1, 1)}
ROW_BYTES = 60


@pytest.fixture(scope="module")
def mariadb():
    """The connection to a server with the table trips: 20,000 minutes from January 1."""
    with running_mariadb() as connection:
        with pymysql.connect(host=connection.host, port=connection.port, user="root", database="shop") as session:
            cursor = session.cursor()
            cursor.execute("CREATE TABLE trips (id INT PRIMARY KEY, at DATETIME, cab VARCHAR(40))")
            cursor.execute(
                "INSERT INTO trips SELECT seq, '2016-01-01' + INTERVAL seq MINUTE, MD5(seq) FROM seq_0_to_19999"
            )
            session.commit()
        yield connection


@pytest.mark.parametrize(
    "query",
    ["SELECT * FROM trips", "SELECT a.*, b.at FROM trips a JOIN trips b ON a.id = b.id",
     "SELECT * FROM trips WHERE at >= :window_start", "SELECT * FROM trips UNION ALL SELECT * FROM trips"]
)  # fmt: skip
def test_a_description_sends_a_sample_and_later_reads_send_all(mariadb, query):
    database = Alchemy(mariadb)
    try:
        before = bytes_sent(database)
        columns = database.describe(query, BOUNDS)
        assert bytes_sent(database) - before < 2 * SAMPLE * ROW_BYTES
        assert [(column.name, column.kind) for column in columns[:2]] == [("id", "number"), ("at", "timestamp")]
        assert sum(batch.num_rows for batch in database.rows("SELECT * FROM trips", {}, [])) == 20_000
    finally:
        database.close()


def bytes_sent(database):
    return int(next(database.rows("SHOW SESSION STATUS LIKE 'Bytes_sent'", {}, [])).column(1)[0].as_py())


def test_a_night_reads_the_rows_of_its_window(mariadb, tmp_path):
    nights = Nights(tmp_path / "downloads", mariadb)
    read = rows(nights.fetch(table="trips"))
    assert len(read) == 6 * 1440 and sorted(read[0]) == ["at", "cab", "id"]
    with pytest.raises(RefusedError, match="two columns named 'at': name each with AS"):
        nights.fetch(query="SELECT a.*, b.at FROM trips a JOIN trips b ON a.id = b.id")
