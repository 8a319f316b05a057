"""PostgreSQL, through its ADBC driver: COPY in binary, straight into Arrow."""

import re
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pyarrow as pa
import pyarrow.compute as pc

from nightly.io.hints import did_you_mean
from nightly.records.connection import Connection
from nightly.sources.errors import ConnectionFailedError, RefusedError, SourceError
from nightly.sources.sql.adbc import AdbcConnection
from nightly.sources.sql.database import CHECKSUMS, PLACEHOLDER, Bounds, Column, Kind
from nightly.sources.sql.errors import BROKEN, at_position, connecting_failed

# What libpq knows of a connection's extra; it refuses other names.
LIBPQ = {
    "application_name", "channel_binding", "client_encoding", "connect_timeout", "fallback_application_name",
    "gssencmode", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname", "options",
    "passfile", "service", "sslcert", "sslcrl", "sslkey", "sslmode", "sslpassword", "sslrootcert",
    "target_session_attrs", "tcp_user_timeout",
}  # fmt: skip
# A server that went away is noticed after two minutes, in place of libpq's two hours.
DEFAULTS = {"application_name": "nightly-retrain", "connect_timeout": "30"} | {
    "keepalives_idle": "60", "keepalives_interval": "10", "keepalives_count": "6",
}  # fmt: skip
AS_TEXT = ("money", "interval", "time", "timetz", "oid", "uuid", "json")  # read as PostgreSQL writes them
FIRST, LAST = -62_135_596_800_000_000, 253_402_300_800_000_000  # the years 1 and 10000, in microseconds


class PostgreSQL:
    """A connection with a transaction that sees one state of the database."""

    substring = "SUBSTR"
    sorts_bytes = False  # but by the database's collation
    checksum = CHECKSUMS["postgresql"]

    def __init__(self, connection: Connection) -> None:
        place = f"{connection.host or 'localhost'}:{connection.port or 5432}/{connection.database}"
        self.name = f"postgresql://{place}"
        self._adbc = _Adbc("adbc_driver_postgresql", self.name, connection, _uri(connection))
        self._adbc.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self._adbc.run("SET LOCAL TimeZone = 'UTC'")
        self._adbc.run("SET LOCAL DateStyle = 'ISO'")
        self._adbc.run("SET LOCAL IntervalStyle = 'postgres'")

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def describe(self, query: str, guess: Bounds) -> list[Column]:
        # NULL compares with every type; the blanks keep the positions that errors quote.
        return [
            self._column(field)
            for field in self._adbc.schema(PLACEHOLDER.sub(lambda match: "NULL".ljust(len(match[0])), query))
        ]

    def rows(self, query: str, bounds: Bounds, columns: list[Column]) -> Iterator[pa.RecordBatch]:
        # COPY takes no parameters, and without COPY the driver holds a result as a whole. So the bounds are bound to
        # settings of the transaction, which the planner takes for constants.
        casts = {}
        for name, value in bounds.items():
            text = value if isinstance(value, str) else str(value) if isinstance(value, int) else value.isoformat()
            self._adbc.run("SELECT set_config($1, $2, true)", [f"nightly.{name}", text])
            casts[name] = f"current_setting('nightly.{name}')::{_cast(value)}"
        for batch in self._adbc.stream(PLACEHOLDER.sub(lambda match: casts[match[1]], query)):
            yield _plain(batch)

    def close(self) -> None:
        self._adbc.close()

    def _column(self, field: pa.Field) -> Column:
        name = f"q.{self.quote(field.name)}"
        declared = (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
        if declared in AS_TEXT or _is_foreign(field.type):
            kind: Kind = "text" if declared == "json" else "other"
            return Column(field.name, kind, f"{name}::text", f"{name}::text", declared)
        element = field.type.value_type if pa.types.is_list(field.type) else None
        if element is not None and (_is_foreign(element) or declared.lstrip("_") in AS_TEXT):
            return Column(field.name, "other", f"{name}::text[]", f"{name}::text[]", declared)
        return Column(field.name, _kind(field.type, declared), name, name, declared)


def _kind(kind: pa.DataType, declared: str) -> Kind:
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or declared == "numeric":
        return "number"
    return "text" if pa.types.is_string(kind) else "other"


def _is_foreign(kind: pa.DataType) -> bool:
    """Return whether the driver knows no Arrow type for a type of PostgreSQL, and passes on its bytes."""
    if pa.types.is_nested(kind) and not pa.types.is_list(kind):
        return True
    return isinstance(kind, pa.BaseExtensionType) and pa.types.is_binary(kind.storage_type)


def _cast(value: object) -> str:
    """Return PostgreSQL's type of a bound."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, int):
        return "bigint"
    if not hasattr(value, "hour"):
        return "date"
    return "timestamptz" if value.tzinfo else "timestamp"


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch in plain Arrow types, without the driver's notes. The time `infinity` becomes null."""
    arrays = [_storage(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names)


def _storage(values: pa.Array) -> pa.Array:
    if isinstance(values, pa.ExtensionArray):
        return values.storage
    if pa.types.is_list(values.type):
        flat = _storage(values.flatten())
        lengths = pc.list_value_length(values).fill_null(0)
        ends = pc.cumulative_sum(lengths.cast(pa.int32()))
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
        return pa.ListArray.from_arrays(offsets, flat, mask=values.is_null())
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        numbers = values.cast(pa.int64() if pa.types.is_timestamp(values.type) else pa.int32()).cast(pa.int64())
        unit = 1 if pa.types.is_timestamp(values.type) else 86_400_000_000
        extent = pc.min_max(numbers).as_py()
        if extent["min"] is not None and (extent["min"] < FIRST // unit or extent["max"] >= LAST // unit):
            inside = pc.and_(pc.greater_equal(numbers, FIRST // unit), pc.less(numbers, LAST // unit))
            return pc.if_else(inside, values, None)
    return values


def _uri(connection: Connection) -> str:
    """Return libpq's URI. It has the password, and stays in this process."""
    extra = {key: str(value) for key, value in connection.extra.items() if key in LIBPQ}
    login = quote(connection.login, safe="")
    if password := connection.password.get_secret_value():
        login += ":" + quote(password, safe="")
    host = f"[{connection.host}]" if ":" in connection.host else quote(connection.host, safe="")
    place = f"{host}:{connection.port}" if connection.port else host
    options = urlencode(DEFAULTS | extra, quote_via=quote)
    return f"postgresql://{login + '@' if login else ''}{place}/{quote(connection.database, safe='')}?{options}"


class _Adbc(AdbcConnection):
    """An ADBC connection whose errors are PostgreSQL's."""

    def explain(self, error: Exception, query: str) -> SourceError:
        pairs = getattr(error, "details", None) or []
        details = {key.decode(): text.decode(errors="replace") for key, text in pairs}
        # An error in the middle of a result has no details, only its text.
        raised = re.search(r"(?:ERROR|FATAL|PANIC): +([^\n]*)", str(error))
        message = self.secrets.masked(details.get("PG_DIAG_MESSAGE_PRIMARY") or (raised[1] if raised else ""))
        code = getattr(error, "sqlstate", None) or ""
        if not query or code[:2] in ("08", "28", "57") or not message or re.search(BROKEN, str(error)):
            return self._broken(message, str(error), code)
        place, position = self.place, int(details.get("PG_DIAG_STATEMENT_POSITION") or 0)
        if position and "current_setting('nightly." not in query:  # a person's own query, and not ours around it
            message += f" ({at_position(query, position)})"
        if code in ("42P01", "3F000"):
            return RefusedError(f"{place}: {message}{self._nearest_table(message)}")
        if code == "42501":
            return RefusedError(f"{place}: {message} for {self.connection.login!r}: have it granted by GRANT SELECT.")
        if code[:2] in ("53", "40"):
            return ConnectionFailedError(f"{place}: {message}. It is tried again.")
        if "statement timeout" in message:
            return self._broken(message, str(error), code)
        hint = details.get("PG_DIAG_MESSAGE_HINT", "").rstrip(".")
        return RefusedError(f"{place}: {message}{': ' if hint else ''}{hint}.")

    def _broken(self, message: str, text: str, code: str) -> SourceError:
        """Return the error of a query that did not come to its end."""
        if "statement timeout" in message:
            return SourceError(
                f"{self.place}: {message}. Index the time column, lower source.slice_days, or raise the time-out."
            )
        if "ReadRecord" in text and not re.search(BROKEN, text):
            return RefusedError(
                f"{self.place}: a value cannot be read as Arrow: {self.secrets.masked(text)}. Leave its column out of "
                "source.columns, or convert it to text in source.query."
            )
        text = "terminating connection" if code.startswith("57P") else text
        return connecting_failed(text, self.place, self.connection, self.secrets)

    def _nearest_table(self, message: str) -> str:
        tables = self.tables()
        names = tables + [name.removeprefix("public.") for name in tables if name.startswith("public.")]
        missing = message.split('"')[1::2][:1]
        return did_you_mean(missing[0], names, otherwise="check its name and its schema") if missing else "."
