"""Say in one sentence what a database refused. Drivers may quote the password, so it is removed from their texts."""

import re
from urllib.parse import quote, quote_plus

from nightly.records.connection import Connection
from nightly.sources.errors import ConnectionFailedError, RefusedError, SourceError

# What the messages of connections that fail have in common, over PostgreSQL, MySQL and others.
CONNECTING = (
    (
        r"password authentication failed|no password supplied|Access denied for user|Login failed|"
        r"Incorrect username or password|role \"[^\"]*\" does not exist",
        "{place} refuses the login {login!r} or its password: correct the connection.",
        RefusedError,
    ),
    (
        r"translate host name|Name or service not known|nodename nor servname|Temporary failure in name resolution",
        "{place}: there is no host {host!r}. Correct the connection's host.",
        RefusedError,
    ),
    (
        r"Connection refused|Can't connect|Errno 111",
        "{place} refuses connections: is the database running there, and is the port right?",
        ConnectionFailedError,
    ),
    (
        r"timeout expired|timed out",
        "{place} does not answer: is the host reachable from here?",
        ConnectionFailedError,
    ),
    (
        r"database \"?'?[^\"']*\"?'? does not exist|Unknown database",
        "{place}: there is no database {database!r}. Correct the connection's schema, which names the database.",
        RefusedError,
    ),
    (
        r"invalid value for parameter \"TimeZone\": \"(?P<value>[^\"]*)\"",
        "{place}: there is no time zone {value!r}. Correct the connection's options.",
        RefusedError,
    ),
    (
        r"invalid (URI query parameter|connection option):? \"(?P<value>[^\"]*)\"",
        "{place}: the connection's extra has {value!r}, which PostgreSQL does not know: remove it.",
        RefusedError,
    ),
    (
        r"server closed the connection|no connection to the server|terminating connection|SSL SYSCALL|"
        r"Lost connection|gone away|Connection reset|could not receive data",
        "{place}: the connection broke. Days that are complete are kept, and the next try goes on with the others.",
        ConnectionFailedError,
    ),
)
BROKEN = CONNECTING[-1][0]


class Secrets:
    """The credentials of a connection, which no error may show."""

    def __init__(self, connection: Connection) -> None:
        values = [connection.password.get_secret_value()]
        values += [value for value in connection.extra.values() if isinstance(value, str) and len(value) > 3]
        forms = {form for value in values if value for form in (value, quote(value, safe=""), quote_plus(value))}
        self._forms = sorted(forms, key=len, reverse=True)

    def masked(self, text: str) -> str:
        """Return the text in one line, without credentials."""
        for form in self._forms:
            text = text.replace(form, "***")
        text = re.sub(r"://[^/\s@]*@", "://***@", text)
        return re.sub(r"\s+", " ", text).strip().rstrip(".")


def connecting_failed(text: str, place: str, connection: Connection, secrets: Secrets) -> SourceError:
    """Return the error of a connection that fails or breaks, from the driver's text."""
    for pattern, sentence, kind in CONNECTING:
        if match := re.search(pattern, text, re.IGNORECASE):
            facts = {"place": place, "login": connection.login, "host": connection.host}
            return kind(sentence.format(**facts, database=connection.database, **match.groupdict()))
    return ConnectionFailedError(f"{place} cannot be reached: {secrets.masked(text)}.")


def at_position(query: str, position: int) -> str:
    """Return where a character of the query is, counted from 1, with the text there."""
    before = query[: position - 1]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    rest = query[position - 1 :].split("\n")[0][:40]
    return f"line {line}, column {column} of the query" + (f", at {rest!r}" if rest else "")
