"""A connection through an ADBC driver: its rows arrive as Arrow."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import pyarrow as pa

from nightly.records.connection import Connection
from nightly.sources.errors import RefusedError, SourceError
from nightly.sources.sql.errors import Secrets, connecting_failed


class AdbcConnection:
    """An open connection with a transaction. Every error of the driver becomes a SourceError.

    :ivar place: as a person knows the database, without credentials
    """

    def __init__(self, driver: str, place: str, connection: Connection, uri: str | None, **options: Any) -> None:
        self.place = place
        self.connection = connection
        self.secrets = Secrets(connection)
        self._cursors: list[Any] = []
        try:
            dbapi = import_module(f"{driver}.dbapi")
        except ModuleNotFoundError:
            raise RefusedError(
                f"{place} is read through the package {driver.replace('_', '-')}, which is not installed: "
                f"`.venv/ml/bin/pip install {driver.replace('_', '-')}`."
            ) from None
        self.errors = (dbapi.Error, pa.ArrowException, OSError)
        with self._explained():
            self._connection = dbapi.connect(uri, **options) if uri is not None else dbapi.connect(**options)

    def schema(self, query: str) -> pa.Schema:
        """Return the columns of a query, by preparing it."""
        with self._explained(query), self._connection.cursor() as cursor:
            return cursor.adbc_execute_schema(query)

    def empty(self, query: str, values: list[Any]) -> pa.Schema:
        """Return the columns of a query without rows, by running it."""
        with self._explained(query), self._connection.cursor() as cursor:
            cursor.execute(query, values) if values else cursor.execute(query)
            return cursor.fetch_record_batch().schema

    def run(self, query: str, values: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """Return the few rows of a query; [] for a command."""
        with self._explained(query), self._connection.cursor() as cursor:
            cursor.execute(query, values) if values else cursor.execute(query)
            return cursor.fetchall() if cursor.description else []

    def stream(
        self, query: str, values: list[Any] | None = None, options: dict[str, str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a query, in the batches of the driver."""
        cursor = None
        try:
            with self._explained(query):
                cursor = self._connection.cursor(adbc_stmt_kwargs=options)
                self._cursors.append(cursor)
                cursor.execute(query, values) if values else cursor.execute(query)
                reader = cursor.fetch_record_batch()
            while True:
                with self._explained(query):
                    batch = next(reader, None)
                if batch is None:
                    return
                yield batch
        finally:
            if cursor in self._cursors:
                self._cursors.remove(cursor)
                with suppress(*self.errors):
                    cursor.close()

    def tables(self) -> list[str]:
        """Return the names of all tables and views that the login can see, as SCHEMA.NAME if there are schemas."""
        with suppress(*self.errors):
            self._connection.rollback()  # a failed query has ended the transaction
            catalogs = self._connection.adbc_get_objects(depth="tables").read_all().to_pylist()
            schemas = [schema for catalog in catalogs for schema in catalog["catalog_db_schemas"] or []]
            return [
                ".".join(filter(None, (schema["db_schema_name"], table["table_name"])))
                for schema in schemas
                for table in schema["db_schema_tables"] or []
            ]
        return []

    def close(self) -> None:
        with suppress(*self.errors):
            for cursor in self._cursors:
                cursor.close()
            self._cursors.clear()
            self._connection.close()

    def explain(self, error: Exception, query: str) -> SourceError:
        """Return the error of a driver as a sentence. A database with error codes replaces it."""
        if not query or "Failed to connect" in str(error):
            return connecting_failed(str(error), self.place, self.connection, self.secrets)
        text = str(error).split("\nQuery was:")[0].split("\nquery:")[0]
        return RefusedError(f"{self.place} refuses the query: {self.secrets.masked(text)}.")

    @contextmanager
    def _explained(self, query: str = "") -> Iterator[None]:
        try:
            yield
        except SourceError:
            raise
        except self.errors as error:
            raise self.explain(error, query) from None
