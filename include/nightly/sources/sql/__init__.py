"""A database as a source: a table or a query, read as Arrow in slices of days, in one consistent view.

source.py      its parts, and how each is fetched
statement.py   the SQL of a slice
times.py       days as values of the time column
run_ahead.py   one query for days that follow each other
database.py    what every database is; adbc.py and postgresql.py, sqlite.py, warehouses.py by ADBC, alchemy.py
"""

from nightly.records.connection import variable
from nightly.records.source_config import SqlSource
from nightly.sources.base import Context
from nightly.sources.errors import RefusedError
from nightly.sources.sql.database import Database
from nightly.sources.sql.source import Sql

__all__ = ["open_source"]


def open_source(config: SqlSource, context: Context) -> Sql:
    """Return the source of a [source] of kind sql. Raises SourceError."""
    if context.address:
        raise RefusedError("a night of a database takes no other path: name another source.connection or table.")
    if not config.connection:
        raise RefusedError('source.kind is "sql", and source.connection names no Airflow connection: add it.')
    if context.connection is None:
        raise RefusedError(
            f"there is no Airflow connection {config.connection!r}: create it, or for bin/night set "
            f"{variable(config.connection)}, e.g. to postgres://user:password@host:5432/database."
        )
    return Sql(config, context, lambda: _connect(context))


def _connect(context: Context) -> Database:
    """Return an open connection to the database. A night loads only the driver it needs."""
    connection = context.connection
    kind = connection.conn_type
    if kind in ("postgres", "postgresql"):
        from nightly.sources.sql.postgresql import PostgreSQL

        return PostgreSQL(connection)
    if kind == "sqlite":
        from nightly.sources.sql.sqlite import SQLite

        return SQLite(connection)
    if kind == "snowflake":
        from nightly.sources.sql.warehouses import snowflake

        return snowflake(connection)
    if kind in ("gcpbigquery", "google_cloud_platform", "bigquery"):
        from nightly.sources.sql.warehouses import bigquery

        return bigquery(connection)
    from nightly.sources.sql.alchemy import Alchemy

    return Alchemy(connection)
