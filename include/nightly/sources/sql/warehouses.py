"""Snowflake and BigQuery, through their ADBC drivers, which are installed by those who need them."""

import json
from collections.abc import Iterator

import pyarrow as pa

from nightly.records.connection import Connection
from nightly.sources.sql.adbc import AdbcConnection
from nightly.sources.sql.database import Bounds, Column, Kind, bound_in_order

SNOWFLAKE = "adbc.snowflake.sql."
BIGQUERY = "adbc.bigquery.sql."


class Warehouse:
    """A connection to a warehouse. It has no transaction over several queries: each sees the rows of its moment."""

    substring = "SUBSTR"
    sorts_bytes = True
    checksum = ""

    def __init__(self, adbc: AdbcConnection, mark: str) -> None:
        self.name = adbc.place
        self._adbc = adbc
        self._mark = mark  # around identifiers

    def quote(self, name: str) -> str:
        return self._mark + name.replace(self._mark, 2 * self._mark) + self._mark

    def describe(self, query: str, guess: Bounds) -> list[Column]:
        nothing, values = bound_in_order(f"SELECT * FROM ({query}\n) q WHERE 1 = 0", guess)
        return [self._column(field) for field in self._adbc.empty(nothing, values)]

    def rows(self, query: str, bounds: Bounds, columns: list[Column]) -> Iterator[pa.RecordBatch]:
        for batch in self._adbc.stream(*bound_in_order(query, bounds)):
            yield pa.RecordBatch.from_arrays(batch.columns, batch.schema.names)

    def close(self) -> None:
        self._adbc.close()

    def _column(self, field: pa.Field) -> Column:
        name, kind = f"q.{self.quote(field.name)}", _kind(field.type)
        return Column(field.name, kind, name, "" if kind == "other" else name, str(field.type))


def snowflake(connection: Connection) -> Warehouse:
    """Return a connection to Snowflake. Its extra has account, warehouse, role and database, as in Airflow."""
    extra = connection.extra
    options = {
        "username": connection.login,
        "password": connection.password.get_secret_value(),
        f"{SNOWFLAKE}account": str(extra.get("account") or connection.host),
        f"{SNOWFLAKE}db": str(extra.get("database", "")),
        f"{SNOWFLAKE}schema": connection.database,
        f"{SNOWFLAKE}warehouse": str(extra.get("warehouse", "")),
        f"{SNOWFLAKE}role": str(extra.get("role", "")),
    }
    place = f"snowflake://{options[f'{SNOWFLAKE}account']}/{options[f'{SNOWFLAKE}db']}"
    kwargs = {name: value for name, value in options.items() if value}
    return Warehouse(AdbcConnection("adbc_driver_snowflake", place, connection, None, db_kwargs=kwargs), '"')


def bigquery(connection: Connection) -> Warehouse:
    """Return a connection to BigQuery. Its extra has project, and keyfile_dict or key_path, as in Airflow; without them
    the machine's own credentials count."""
    extra = connection.extra
    project = str(extra.get("project") or extra.get("project_id") or connection.host)
    options = {f"{BIGQUERY}project_id": project, f"{BIGQUERY}dataset_id": connection.database}
    if keys := extra.get("keyfile_dict"):
        options[f"{BIGQUERY}auth_type"] = f"{BIGQUERY}auth_type.json_credential_string"
        options[f"{BIGQUERY}auth_credentials"] = keys if isinstance(keys, str) else json.dumps(keys)
    elif path := extra.get("key_path"):
        options[f"{BIGQUERY}auth_type"] = f"{BIGQUERY}auth_type.json_credential_file"
        options[f"{BIGQUERY}auth_credentials"] = str(path)
    kwargs = {name: value for name, value in options.items() if value}
    return Warehouse(
        AdbcConnection("adbc_driver_bigquery", f"bigquery://{project}", connection, None, db_kwargs=kwargs), "`"
    )


def _kind(kind: pa.DataType) -> Kind:
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else "other"
