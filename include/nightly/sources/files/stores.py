"""Clients of buckets (S3, Google Cloud Storage, Azure Blob Storage) with an Airflow connection's credentials.

Without a connection, a client takes what its environment has: variables, a service account's file, the machine's role.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

from nightly.records.connection import Connection
from nightly.sources.cloud_credentials import store_options
from nightly.sources.errors import ConnectionFailedError, NoAccessError, PathNotFoundError, SourceError

# No time-out for a whole request, which may be a large object, but for silence.
CLIENT = {"timeout": "7days", "connect_timeout": "10s", "read_timeout": "60s"}
RETRIES = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}

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
    text = str(error)
    match = re.search(r"<Code>(\w+)</Code>|\"code\": ?\"(\w+)\"", text)
    code = (match and (match[1] or match[2])) or ""
    status = next(iter(re.findall(r"status code: (\d+)|status: (\d+)", text)), ("", ""))
    status = status[0] or status[1]
    who = f"the connection {connection!r}" if connection else "the environment, as `source.connection` names none,"
    bucket = "/".join(url.split("/")[:3])
    if isinstance(error, exceptions.PreconditionError):
        return ChangedError(f"{url} was replaced while it was read.")
    if "Expired" in code or re.search(r"<(Message|AuthenticationErrorDetail)>[^<]*(expired|time frame)", text):
        return NoAccessError(f"{url}: the token of {who} has expired: renew it, and clear the task.")
    if code in ("NoSuchBucket", "ContainerNotFound") or (status == "404" and "bucket does not exist" in text):
        return PathNotFoundError(f"{bucket} does not exist; `source.path` in the model's config.toml names it.")
    if isinstance(error, FileNotFoundError) or status == "404":
        return PathNotFoundError(f"{url} does not exist, or was removed; `source.path` in config.toml names it.")
    refused = isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError))
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure", "AuthenticationFailed", "InvalidToken"):
        return NoAccessError(f"{url}: the keys of {who} are wrong ({code}).")
    if refused or status in ("401", "403"):
        return NoAccessError(f"{url}: {who} may not read it ({code or f'status {status}'}).")
    if "incorrectly configured region" in text or status == "301":
        return NoAccessError(f"{bucket} is in another region: set region_name in the extra of {who}.")
    if status:
        return ConnectionFailedError(f"{url} answered {status} {code}".rstrip() + ": try again later.")
    causes = re.findall(r'message: "([^"]+)"|"(dns error|tcp connect error)"|(operation timed out|TimedOut)', text)
    cause = next((next(filter(None, groups)) for groups in reversed(causes)), type(error).__name__)
    if re.search(
        r"169\.254\.169\.254|metadata\.google\.internal|[Mm]issing credential", text
    ):  # the machine's own role
        return NoAccessError(f"{url}: {who} has no credentials for it.")
    return ConnectionFailedError(f"{url}: {cause}.")
