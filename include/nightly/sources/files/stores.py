"""Clients of buckets (S3, Google Cloud Storage, Azure Blob Storage) with an Airflow connection's credentials.

Without a connection, a client takes what its environment has: variables, a service account's file, the machine's role.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

from nightly.io.buckets import CLIENT, RETRIES, problem
from nightly.records.connection import Connection
from nightly.sources.cloud_credentials import store_options
from nightly.sources.errors import ConnectionFailedError, NoAccessError, PathNotFoundError, SourceError

Store = S3Store | GCSStore | AzureStore
STORES = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}


class ChangedError(SourceError):
    """The object was replaced while it was read."""


def open_store(scheme: str, bucket: str, connection: Connection | None) -> Store:
    """Return a client of the bucket. Sends no request. Raises SourceError for credentials that are not valid."""
    options = store_options(connection, scheme)
    client: dict[str, Any] = {**CLIENT, "allow_http": options.allow_http}
    if "google_base_url" in options.options:  # Cloud Storage's emulator, which answers only under Google's name
        client["default_headers"] = {"host": "storage.googleapis.com"}
    try:
        return STORES[scheme](bucket, config=options.options, client_options=client, retry_config=RETRIES)
    except (exceptions.BaseError, ValueError) as error:
        problem = "is not valid" if connection else "is needed, as the environment has no credentials"
        raise NoAccessError(
            f"{scheme}://{bucket}: the connection in `source.connection` {problem} ({type(error).__name__}); "
            "docs/how-to/sources/index.md lists the fields."
        ) from None  # its message may quote credentials


@contextmanager
def errors_explained(url: str, connection: str) -> Iterator[None]:
    """Turn a client's error into a SourceError of one sentence.

    The client's own message is never quoted: its URL may be signed.

    :param connection: the id of the connection, for the message; "" if there is none
    """
    try:
        yield
    except (exceptions.BaseError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's
        raise _explained(url, connection, error) from None


def _explained(url: str, connection: str, error: Exception) -> SourceError:
    who = f"the connection {connection!r}" if connection else "the environment, as `source.connection` names none,"
    bucket = "/".join(url.split("/")[:3])
    met = problem(error)
    match met.kind:
        case "replaced":
            return ChangedError(f"{url} was replaced while it was read.")
        case "expired":
            return NoAccessError(f"{url}: the token of {who} has expired: renew it, and clear the task.")
        case "no bucket":
            return PathNotFoundError(f"{bucket} does not exist; check the path (`source.path` in config.toml).")
        case "missing":
            return PathNotFoundError(
                f"{url} does not exist, or was removed; check the path (`source.path` in config.toml)."
            )
        case "keys":
            return NoAccessError(f"{url}: the keys of {who} are wrong ({met.detail}).")
        case "refused":
            return NoAccessError(f"{url}: {who} may not read it ({met.detail}).")
        case "region":
            return NoAccessError(f"{bucket} is in another region: set region_name in the extra of {who}.")
        case "answered":
            return ConnectionFailedError(f"{url} answered {met.detail}: try again later.")
        case "credentials":
            return NoAccessError(f"{url}: {who} has no credentials for it.")
        case _:
            return ConnectionFailedError(f"{url}: {met.detail}.")
