"""Every database without an ADBC driver, through its SQLAlchemy dialect: a server-side cursor, batch by batch."""

import datetime as dt
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy

from nightly.io.hints import did_you_mean
from nightly.records.connection import Connection
from nightly.sources.errors import RefusedError, SourceError
from nightly.sources.sql.database import CHECKSUMS, Bounds, Column, Kind
from nightly.sources.sql.errors import CONNECTING, Secrets, connecting_failed

log = logging.getLogger(__name__)

DRIVERS = {"mysql": "mysql+pymysql", "mssql": "mssql+pymssql", "oracle": "oracle+oracledb"}
ONE_VIEW = ("SNAPSHOT", "REPEATABLE READ", "SERIALIZABLE")  # isolation levels in which all reads see the same rows
UTC = {"mysql": "SET time_zone = '+00:00'", "mariadb": "SET time_zone = '+00:00'"}
SAMPLE = 1_000  # rows that show the types of a query's columns
# A server that sends all rows of a statement, also those that nobody reads -> how it is told to send fewer
FEWER_ROWS = dict.fromkeys(("mysql", "mariadb"), "SET sql_select_limit = {}")
BATCH_BYTES = 16 << 20
# A colon that SQLAlchemy would take for another parameter, as in 'a :b'.
COLON = re.compile(r"(?<![:\w\\]):(?=\w)(?!window_(start|end)\b)")
TYPES = {"timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", "UTC"), "date": pa.date32()}


class Alchemy:
    """A connection with a transaction, which sees one state of the database if its dialect can."""

    def __init__(self, connection: Connection) -> None:
        self._airflow = connection
        self._secrets = Secrets(connection)
        driver = DRIVERS.get(connection.conn_type, connection.conn_type)
        place = f"{connection.host}:{connection.port}" if connection.port else connection.host
        self.name = f"{driver.split('+')[0]}://{place}/{connection.database}"
        try:
            url = sqlalchemy.URL.create(
                driver,
                connection.login or None,
                connection.password.get_secret_value() or None,
                connection.host or None,
                connection.port,
                connection.database or None,
                {key: str(value) for key, value in connection.extra.items() if isinstance(value, str | int)},
            )
            self._engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        except sqlalchemy.exc.NoSuchModuleError:
            raise RefusedError(
                f"{self.name}: SQLAlchemy has no dialect {driver!r}. Install the package that has it into .venv/ml, or "
                "correct the connection's type."
            ) from None
        except ModuleNotFoundError as error:
            raise RefusedError(
                f"{self.name} is read through the package {error.name}, which is not installed: "
                f"`.venv/ml/bin/pip install {error.name}`."
            ) from None
        dialect = self._engine.dialect
        self.substring = "SUBSTRING" if dialect.name == "mssql" else "SUBSTR"
        self.sorts_bytes = dialect.name == "sqlite"
        self.checksum = CHECKSUMS.get(dialect.name, "")
        self._prepare = dialect.identifier_preparer
        with self._explained():
            self._connection = self._engine.connect()
            self._begin(dialect)

    def _begin(self, dialect: Any) -> None:
        levels = dialect.get_isolation_level_values(self._connection.connection.dbapi_connection)
        level = next((level for level in ONE_VIEW if level in levels), None)
        if level is None:
            log.warning("%s has no transaction of one view: rows that change meanwhile may be read twice", self.name)
        else:
            self._connection = self._connection.execution_options(isolation_level=level)
        if dialect.name in UTC:
            self._connection.exec_driver_sql(UTC[dialect.name])
        if dialect.name == "sqlite":  # Python's driver begins a transaction before a write only
            self._connection.exec_driver_sql("BEGIN")

    def quote(self, name: str) -> str:
        return self._prepare.quote(name)

    def describe(self, query: str, guess: Bounds) -> list[Column]:
        with self._explained(), self._fewer_rows():
            result = self._connection.execution_options(stream_results=True).execute(*_statement(query, guess))
            names, sample = list(result.keys()), result.fetchmany(SAMPLE)
            result.close()
        columns = []
        for name, values in zip(names, zip(*sample, strict=True) if sample else [()] * len(names), strict=True):
            # A column without values is as good as the type of the window's bounds.
            unknown = 0 if isinstance(guess["window_start"], int) else ""
            kind, declared = _kind(next((value for value in values if value is not None), unknown))
            expression = f"q.{self.quote(name)}"
            columns.append(Column(name, kind, expression, "" if kind == "other" else expression, declared))
        return columns

    def rows(self, query: str, bounds: Bounds, columns: list[Column]) -> Iterator[pa.RecordBatch]:
        size = 100
        with self._explained():
            options = {"stream_results": True, "max_row_buffer": 1_000}
            result = self._connection.execution_options(**options).execute(*_statement(query, bounds))
        try:
            names = list(result.keys())
            while True:
                with self._explained():
                    rows = result.fetchmany(size)
                if not rows:
                    return
                arrays = [
                    self._array(values, columns[n] if columns else None)
                    for n, values in enumerate(zip(*rows, strict=True))
                ]
                batch = pa.RecordBatch.from_arrays(arrays, names)
                size = max(1, min(50_000, 10 * size, BATCH_BYTES * len(rows) // max(batch.nbytes, 1)))
                yield batch
        finally:
            result.close()

    def close(self) -> None:
        with suppress(sqlalchemy.exc.SQLAlchemyError):
            self._connection.close()
            self._engine.dispose()

    @contextmanager
    def _fewer_rows(self) -> Iterator[None]:
        """Have the server send no more rows than a sample, if it would send all."""
        setting = FEWER_ROWS.get(self._engine.dialect.name)
        if setting is None:
            yield
            return
        self._connection.exec_driver_sql(setting.format(SAMPLE))
        yield
        self._connection.exec_driver_sql(setting.format("DEFAULT"))

    def _array(self, values: tuple[Any, ...], column: Column | None) -> pa.Array:
        if column is None:
            return pa.array(values)
        if column.declared == "bytes":
            return pa.array([None if value is None else bytes(value) for value in values], pa.binary())
        if column.kind in TYPES:
            return pa.array(values, TYPES[column.kind])
        try:
            return pa.array([_text(value) for value in values], pa.string())
        except UnicodeDecodeError:
            raise RefusedError(
                f"{self.name}: the column {column.name!r} has both text and bytes: convert it in `query`."
            ) from None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlalchemy.exc.NoSuchTableError as error:
            raise RefusedError(f"{self.name} has no table {error}.") from None
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise self._error(str(getattr(error, "orig", None) or error)) from None

    def _error(self, text: str) -> SourceError:
        if any(re.search(pattern, text, re.IGNORECASE) for pattern, _, _ in CONNECTING):
            return connecting_failed(text, self.name, self._airflow, self._secrets)
        hint = "."
        missing = re.search(r"no such table: (\S+)|Table '(\S+)' doesn't exist|Invalid object name '(\S+)'", text)
        if missing:
            table = next(filter(None, missing.groups())).split(".")[-1]
            with suppress(sqlalchemy.exc.SQLAlchemyError):
                hint = did_you_mean(table, sqlalchemy.inspect(self._engine).get_table_names(), "check the name")
        return RefusedError(f"{self.name}: {self._secrets.masked(text)}{hint}")


def _statement(query: str, bounds: Bounds) -> tuple[sqlalchemy.TextClause, dict[str, Any]]:
    statement = sqlalchemy.text(COLON.sub(r"\\:", query))
    return statement, {name: value for name, value in bounds.items() if name in statement.compile().params}


def _kind(value: Any) -> tuple[Kind, str]:
    if isinstance(value, dt.datetime):
        return ("timestamptz" if value.tzinfo else "timestamp"), "datetime"
    if isinstance(value, dt.date):
        return "date", "date"
    if isinstance(value, bytes | bytearray | memoryview):
        return "other", "bytes"
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return "number", "number"
    return ("text", "text") if isinstance(value, str) else ("other", type(value).__name__)


def _text(value: Any) -> str | None:
    """Return a value as CSV would have it. Numbers are text too, so a column may mix whole and other numbers."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, default=str)
    return value.isoformat(" ") if isinstance(value, dt.datetime) else str(value)
