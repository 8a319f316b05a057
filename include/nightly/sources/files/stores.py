"""Clients of buckets (S3, Google Cloud Storage, Azure Blob Storage) with an Airflow connection's credentials.

Without a connection, a client takes what its environment has: variables, a service account's file, the machine's role.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

from nightly.records.connection import Connection
from nightly.sources.errors import ConnectionFailedError, NoAccessError, PathNotFoundError, SourceError

# No time-out for a whole request, which may be a large object, but for silence.
CLIENT = {"timeout": "7days", "connect_timeout": "10s", "read_timeout": "60s"}
RETRIES = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}

Store = S3Store | GCSStore | AzureStore


class ChangedError(SourceError):
    """The object was replaced while it was read."""


def open_store(scheme: str, bucket: str, connection: Connection | None) -> Store:
    """Return a client of the bucket. Sends no request. Raises SourceError for credentials that are not valid."""
    makers = {"s3": _s3, "gs": _gs, "az": _az}
    try:
        return makers[scheme](bucket, connection or Connection())
    except (exceptions.BaseError, ValueError) as error:
        problem = "is not valid" if connection else "is needed, as the environment has no credentials"
        raise NoAccessError(
            f"{scheme}://{bucket}: the connection in `source.connection` {problem} ({type(error).__name__}); "
            "docs/how-to/sources/files.md lists the fields."
        ) from None  # its message may quote credentials


def _s3(bucket: str, connection: Connection) -> S3Store:
    extra = connection.extra
    if extra.get("role_arn"):
        raise SourceError(
            "an AWS connection with role_arn is not supported: give it keys, or run the night on a machine with that "
            "role and without keys in the connection."
        )
    endpoint = extra.get("endpoint_url") or extra.get("host") or connection.host
    options = {
        "access_key_id": connection.login or extra.get("aws_access_key_id"),
        "secret_access_key": connection.password.get_secret_value() or extra.get("aws_secret_access_key"),
        "session_token": extra.get("aws_session_token"),
        "region": extra.get("region_name"),
        "endpoint": endpoint,
    }
    return S3Store(bucket, client_options=_client(endpoint), retry_config=RETRIES, **_given(options))


def _gs(bucket: str, connection: Connection) -> GCSStore:
    extra = connection.extra
    key = extra.get("keyfile_dict")
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")  # as for Google's own client
    client = _client(emulator) | ({"default_headers": {"host": "storage.googleapis.com"}} if emulator else {})
    options = {
        "service_account_key": json.dumps(key) if isinstance(key, dict) else key,
        "service_account": extra.get("key_path"),
        "base_url": emulator,
        "skip_signature": True if emulator or extra.get("is_anonymous") else None,
    }
    return GCSStore(bucket, client_options=client, retry_config=RETRIES, **_given(options))


def _az(bucket: str, connection: Connection) -> AzureStore:
    extra = connection.extra
    pairs = (pair.partition("=") for pair in str(extra.get("connection_string") or "").split(";"))
    parts = {name: value for name, _, value in pairs}
    account = connection.login or parts.get("AccountName")
    endpoint = parts.get("BlobEndpoint") or (connection.host if "://" in connection.host else None)
    secret = connection.password.get_secret_value()
    tenant = extra.get("tenant_id")
    options = {
        "account_name": account if not tenant else connection.host.partition(".")[0] or account,
        "account_key": parts.get("AccountKey") or (None if tenant else secret),
        "client_id": connection.login if tenant else None,
        "client_secret": secret if tenant else None,
        "tenant_id": tenant,
        "sas_key": extra.get("sas_token") or parts.get("SharedAccessSignature"),
        "endpoint": endpoint,
    }
    return AzureStore(bucket, client_options=_client(endpoint), retry_config=RETRIES, **_given(options))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value}


def _client(endpoint: str | None) -> dict[str, Any]:
    return {**CLIENT, "allow_http": bool(endpoint and endpoint.startswith("http://"))}


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
    found = re.search(r"<Code>(\w+)</Code>|\"code\": ?\"(\w+)\"", text)
    code = (found and (found[1] or found[2])) or ""
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
