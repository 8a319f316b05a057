"""What an Airflow connection says about an HTTP source: its address, headers and parameters."""

import base64
from urllib.parse import urlsplit

from nightly.records.connection import NO_HEADERS, Connection


def url_of(connection: Connection | None, default: str) -> str:
    """Return the connection's URL, with what it lacks from `default`.

    The connection's schema is the URL's scheme, as Airflow has it, or else its path, as in
    AIRFLOW_CONN_X=https://user:password@host/path.
    """
    if connection is None or not connection.host:
        return default
    if "://" in connection.host:
        return connection.host
    parts, named = urlsplit(default), connection.database
    scheme = parts.scheme
    if named in ("http", "https"):
        scheme, named = named, ""
    elif connection.conn_type == "https":
        scheme = "https"
    host = f"{connection.host}:{connection.port}" if connection.port else connection.host
    path = connection.extra.get("path") or named or parts.path
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{host}/{path.lstrip('/')}{query}"


def headers_of(connection: Connection | None) -> dict[str, str]:
    """Return Basic authorization for a login, a bearer token for a password alone, and extra headers."""
    if connection is None:
        return {}
    extra = {
        name: value for name, value in connection.extra.items() if name not in NO_HEADERS and isinstance(value, str)
    }
    headers = {name: str(value) for name, value in (extra | _table(connection, "headers")).items()}
    password = connection.password.get_secret_value()
    if connection.login:
        pair = base64.b64encode(f"{connection.login}:{password}".encode()).decode()
        headers.setdefault("Authorization", f"Basic {pair}")
    elif password:
        headers.setdefault("Authorization", f"Bearer {password}")
    return headers


def params_of(connection: Connection | None) -> dict[str, str]:
    """Return the parameters in the connection's extra."""
    return {name: str(value) for name, value in _table(connection, "params").items()} if connection else {}


def _table(connection: Connection, name: str) -> dict[str, object]:
    table = connection.extra.get(name)
    return table if isinstance(table, dict) else {}
