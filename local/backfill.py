"""`airflow backfill create` beside a scheduler on SQLite; bin/airflow runs this. With PostgreSQL it is Airflow's own.

Airflow makes each run within a savepoint that begins by reading. SQLite refuses the write that follows, at once, when
another process has written in between: "database is locked". A transaction that is a writer's from its beginning waits
for its turn.
"""

import sqlite3
import sys
from typing import Any

from airflow.__main__ import main
from sqlalchemy import Connection, Engine, event

WAIT_SECONDS = 60  # for the other processes' transactions, which are short


def take_turns(engines: type[Engine] | Engine) -> None:
    """Let each transaction over SQLite wait until it may write, and then begin."""
    event.listen(engines, "connect", _leave_transactions_to_sqlalchemy)
    event.listen(engines, "begin", _begin_as_a_writer)


def _leave_transactions_to_sqlalchemy(connection: Any, record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {WAIT_SECONDS * 1000}")


def _begin_as_a_writer(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


if __name__ == "__main__":
    take_turns(Engine)
    sys.exit(main())
