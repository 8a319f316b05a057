"""Translate an Airflow connection to a cloud's object store into the options of the libraries that read from it.

obstore and deltalake both use Rust's object_store, so they share the names of its options. pyiceberg has its own.
Without a connection the libraries take the environment's credentials, e.g. AWS_ACCESS_KEY_ID.
docs/how-to/sources/index.md lists the fields of a connection.
"""

import datetime as dt
import json
import os
from dataclasses import dataclass, field
from typing import Any

from nightly.records.connection import Connection
from nightly.sources.errors import SourceError

GOOGLE_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
ICEBERG_PROPERTIES = {
    "aws_access_key_id": "s3.access-key-id",
    "aws_secret_access_key": "s3.secret-access-key",
    "aws_session_token": "s3.session-token",
    "aws_region": "s3.region",
    "aws_endpoint_url": "s3.endpoint",
    "aws_skip_signature": "s3.anonymous",
    "google_base_url": "gcs.service.host",
}


@dataclass(frozen=True)
class StoreOptions:
    """How to reach an object store. `repr` shows no credentials.

    :ivar options: object_store's name -> value, e.g. `aws_access_key_id`; empty for the environment's credentials
    :ivar allow_http: the endpoint is not encrypted, as that of a local test server
    """

    options: dict[str, str] = field(default_factory=dict, repr=False)
    allow_http: bool = False

    def for_delta(self) -> dict[str, str]:
        """Return the options as deltalake's `storage_options`."""
        return self.options | ({"allow_http": "true"} if self.allow_http else {})

    def for_iceberg(self) -> dict[str, str]:
        """Return the options as properties of pyiceberg's file IO. Raises SourceError for a refused Google key."""
        properties = {
            ICEBERG_PROPERTIES[name]: value for name, value in self.options.items() if name in ICEBERG_PROPERTIES
        }
        return properties | _google_token(self.options)


def store_options(connection: Connection | None, scheme: str = "") -> StoreOptions:
    """Return the options of a connection of type `aws`, `google_cloud_platform` or `wasb`.

    Without a connection there are none, but for the emulator of Cloud Storage.

    :param scheme: of the URL that the store is reached by, e.g. `gs`; "" if it tells no store
    :raises SourceError: the connection is of another type, or has a field that no source can use. The text has no
        values
    """
    of_scheme = SCHEMES.get(scheme)
    if connection is None:
        options = _google(Connection()) if of_scheme is _google else {}
    else:
        translate = TYPES.get(connection.conn_type)
        if translate is None or of_scheme not in (None, translate):
            store = f"{scheme}:// URL" if of_scheme else "object store"
            types = [name for name, reaches in TYPES.items() if of_scheme in (None, reaches) and name != "s3"]
            raise SourceError(
                f"source.connection is of type {connection.conn_type!r}, which reaches no {store}; "
                f"use one of type {' or '.join(types)}."
            )
        options = translate(connection)
    options = {name: str(value) for name, value in options.items() if value}
    endpoints = (value for name, value in options.items() if name.endswith(("endpoint", "endpoint_url", "base_url")))
    return StoreOptions(options, any(value.startswith("http://") for value in endpoints))


def _aws(connection: Connection) -> dict[str, Any]:
    extra = connection.extra
    _refuse(extra, "role_arn", "profile_name", "assume_role_method")
    service = _mapping(_mapping(extra.get("service_config"), "service_config").get("s3"), "service_config")
    region = extra.get("region_name") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = extra.get("endpoint_url") or service.get("endpoint_url") or extra.get("host") or connection.host
    return {
        "aws_access_key_id": connection.login or extra.get("aws_access_key_id"),
        "aws_secret_access_key": connection.password.get_secret_value() or extra.get("aws_secret_access_key"),
        "aws_session_token": extra.get("aws_session_token"),
        "aws_region": region or "us-east-1",
        "aws_endpoint_url": endpoint,
        "aws_skip_signature": "true" if extra.get("anonymous") else None,
    }


def _google(connection: Connection) -> dict[str, Any]:
    extra = {name.removeprefix("extra__google_cloud_platform__"): value for name, value in connection.extra.items()}
    _refuse(extra, "key_secret_name", "credential_config_file", "impersonation_chain")
    keyfile = _mapping(extra.get("keyfile_dict"), "keyfile_dict")
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")  # as for Google's own client
    return {
        "google_service_account_key": json.dumps(keyfile) if keyfile else None,
        "google_service_account": extra.get("key_path"),
        "google_skip_signature": "true" if emulator or extra.get("is_anonymous") else None,
        "google_base_url": emulator,
    }


def _azure(connection: Connection) -> dict[str, Any]:
    extra = {name.removeprefix("extra__wasb__"): value for name, value in connection.extra.items()}
    _refuse(extra, "managed_identity_client_id", "workload_identity_tenant_id")
    text = str(extra.get("connection_string") or "")
    parts = dict(item.split("=", 1) for item in text.split(";") if "=" in item)
    login, password, host = connection.login, connection.password.get_secret_value(), connection.host
    by_client = bool(extra.get("tenant_id"))  # then login and password are those of an application
    endpoint = parts.get("BlobEndpoint") or extra.get("endpoint_url") or (host if "://" in host else "")
    of_host = (endpoint or host).rpartition("://")[2].split(".")[0]  # ACCOUNT.blob.core.windows.net
    return {
        "azure_storage_account_name": parts.get("AccountName") or ("" if by_client else login) or of_host,
        "azure_storage_account_key": parts.get("AccountKey") or ("" if by_client else password),
        "azure_storage_sas_token": extra.get("sas_token") or parts.get("SharedAccessSignature"),
        "azure_storage_client_id": login if by_client else "",
        "azure_storage_client_secret": password if by_client else "",
        "azure_storage_tenant_id": extra.get("tenant_id"),
        "azure_storage_endpoint": endpoint,
    }


# A connection's type, or a URL's scheme -> how a connection is translated. Airflow once called aws s3.
TYPES = {"aws": _aws, "s3": _aws, "google_cloud_platform": _google, "wasb": _azure}
SCHEMES = {"s3": _aws, "s3a": _aws, "gs": _google, "az": _azure, "abfs": _azure, "abfss": _azure}


def _refuse(extra: dict[str, Any], *names: str) -> None:
    if used := next((name for name in names if extra.get(name)), None):
        raise SourceError(
            f"source.connection has `{used}` in its extra, which a source cannot use; give keys there, "
            "or leave source.connection out and set the credentials in the environment."
        )


def _mapping(value: Any, name: str) -> dict[str, Any]:
    try:
        mapping = json.loads(value) if isinstance(value, str) and value else value or {}
    except ValueError:
        mapping = None
    if not isinstance(mapping, dict):
        raise SourceError(f"`{name}` in the extra of source.connection is not a JSON object; write it anew.")
    return mapping


def _google_token(options: dict[str, str]) -> dict[str, str]:
    """Return a token of the service account, since Arrow's reader of Google's buckets takes no key. Asks Google."""
    key, path = options.get("google_service_account_key"), options.get("google_service_account")
    if not key and not path:
        return {}
    import google.auth.exceptions
    from google.auth.transport.requests import Request
    from google.oauth2.service_account import Credentials

    try:
        if key:
            credentials = Credentials.from_service_account_info(json.loads(key), scopes=[GOOGLE_SCOPE])
        else:
            credentials = Credentials.from_service_account_file(path, scopes=[GOOGLE_SCOPE])
        credentials.refresh(Request())
    except (google.auth.exceptions.GoogleAuthError, ValueError, OSError) as error:
        raise SourceError(
            f"Google refuses the key of source.connection ({type(error).__name__}); give a valid one."
        ) from None
    expiry = int(credentials.expiry.replace(tzinfo=dt.UTC).timestamp() * 1000)
    return {"gcs.oauth2.token": credentials.token, "gcs.oauth2.token-expires-at": str(expiry)}
