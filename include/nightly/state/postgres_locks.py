"""Locks between hosts: PostgreSQL's advisory locks, each with a connection of its own.

The server releases a lock when its connection ends, so it ends with its process. If the host vanishes, the server
notices within a minute, by TCP's keep-alive. If the server vanishes, so does the lock: another server may give it to
another host. The yielded check notices that, within a minute, too.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from nightly.io import variables
from nightly.state.errors import StateError, StateNotReachedError

log = logging.getLogger("nightly")

CONNECTION: dict[str, Any] = {
    "connect_timeout": 20,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 50_000,  # milliseconds
    "options": "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",  # the server's
    "application_name": "nightly",
}


class LocksNotConfiguredError(StateError):
    """The state is in a bucket, and no database is named for the locks between its hosts."""

    retry = False


@contextmanager
def locked_by_postgres(
    name: str, *, wait: bool, on_wait: Callable[[], object], shared: bool = False
) -> Iterator[Callable[[], None]]:
    """Hold the lock `name` in the database of NIGHTLY_METADATA_DB until the block ends.

    Yield a function that raises StateNotReachedError if the lock was lost.

    Raises BlockingIOError if another has it and `wait` is False, LocksNotConfiguredError and StateNotReachedError.
    """
    import psycopg2

    kind = "_shared" if shared else ""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    try:
        connection = psycopg2.connect(_database(), **CONNECTION)
    except psycopg2.Error as error:
        raise _not_reached(error) from None
    with closing(connection):
        connection.autocommit = True
        cursor = connection.cursor()
        try:
            cursor.execute(f"SELECT pg_try_advisory_lock{kind}(%s)", (key,))
            if not cursor.fetchone()[0]:
                if not wait:
                    raise BlockingIOError(11, "another host or process holds the lock", name)
                on_wait()
                cursor.execute(f"SELECT pg_advisory_lock{kind}(%s)", (key,))
        except psycopg2.Error as error:
            raise _not_reached(error) from None

        def check() -> None:
            try:
                connection.cursor().execute("SELECT 1")
            except psycopg2.Error as error:
                raise StateNotReachedError(
                    f"The lock {name} was lost, as its connection to the database of {variables.METADATA_DB.name} "
                    f"ended ({type(error).__name__}). Another host may hold it now; run the step again."
                ) from None

        yield check
        try:
            cursor.execute(f"SELECT pg_advisory_unlock{kind}(%s)", (key,))
        except psycopg2.Error:
            log.warning("the connection of the lock %s was lost while it was held", name)


def _database() -> str:
    url = variables.METADATA_DB.read()
    if not url:
        raise LocksNotConfiguredError(
            f"{variables.STATE.name} is a bucket, and its hosts need a database for their locks; set "
            f"{variables.METADATA_DB.name} to postgresql://user:password@host:port/name."
        )
    return url


def _not_reached(error: Exception) -> StateError:
    return StateNotReachedError(
        f"The database of {variables.METADATA_DB.name} gives no lock ({type(error).__name__}); see that it runs and "
        "that the name and password are right."
    )  # the error's own message may name the password
