"""How to reach a source: the address and the credentials of an Airflow connection.

Airflow resolves the connection and hands it to the download's process in the environment variable that Airflow itself
reads, AIRFLOW_CONN_<ID>. `bin/night` has no Airflow, and reads the same variable. It is never saved.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import ConfigDict, Field, SecretStr, model_validator

from nightly.records.base import Contract, ContractError

PREFIX = "AIRFLOW_CONN_"
SECRET = re.compile(  # keys of `extra` whose values, and all below them, are secret
    r"passw|passphrase|secret|token|credential|private|authorization|signature|keyfile_dict|connection_string|\bsas"
    r"|(api|access|account|shared|service|subscription)[-_]?key|^(app)?[-_]?key$|^app[-_]?id$|cookie",
    re.IGNORECASE,
)
# An HTTP API may call its key anything. So all headers and parameters are secret, except for what is no key by its name
# (of a header) or by its value (a short word, a date): with these hidden, a log could not be read.
SENT = ("headers", "params")
HTTP_TYPES = ("", "generic", "http", "https")  # their other texts in `extra` are sent as headers
# Settings of Airflow's HttpHook, which takes all other keys of `extra` as headers, and our own two.
NO_HEADERS = (
    *("timeout", "allow_redirects", "proxies", "verify", "cert", "stream", "trust_env", "check_response"),
    *("max_redirects", "auth_type", "auth_kwargs", "headers", "params", "path"),
)
NO_SECRET_HEADER = re.compile(
    r"accept(-.+)?|content-type|user-agent|cache-control|connection|host|origin|referer|prefer|.*version", re.IGNORECASE
)
NO_SECRET_VALUE = re.compile(r".{,7}|\d{4}-\d\d-\d\d")


class Connection(Contract):
    """An Airflow connection, as in Airflow's JSON form of one. `repr` shows neither the password nor `extra`."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    conn_type: str = ""
    host: str = ""
    login: str = ""
    password: SecretStr = SecretStr("")
    port: int | None = None
    database: str = Field(default="", alias="schema")  # Airflow's `schema`: a database, or a URL's scheme for http
    extra: dict[str, Any] = Field(default={}, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _as_airflow_reads_it(cls, fields: Any) -> Any:
        """Leave out nulls, and read an `extra` that is JSON as text."""
        fields = {name: value for name, value in fields.items() if value is not None}
        if isinstance(fields.get("extra"), str):
            fields["extra"] = json.loads(fields["extra"] or "{}")
        kind = str(fields.get("conn_type", "")).replace("-", "_")
        return {**fields, "conn_type": "postgres" if kind == "postgresql" else kind}

    def dump(self) -> str:
        """Return the JSON that `from_environment` and Airflow read. It has the password in plain text."""
        return json.dumps(
            {
                **self.model_dump(by_alias=True, exclude={"password"}),
                "password": self.password.get_secret_value(),
            }
        )

    def secrets(self) -> list[str]:
        """Return the password, the values of `extra` that are secret by their keys, and those sent to an HTTP API."""
        values = [self.password.get_secret_value(), *_texts(self.extra, secret=False), *self._sent()]
        return [value for value in values if value]

    def public_extra(self) -> dict[str, Any]:
        """Return `extra` without what is secret by its key: what remains says which rows the source has."""
        return _public(self.extra)

    def _sent(self) -> Iterator[str]:
        """Yield the headers and parameters that may be secret."""
        tables = [self.extra[name] for name in SENT if isinstance(self.extra.get(name), dict)]
        if self.conn_type in HTTP_TYPES:
            tables.append({name: value for name, value in self.extra.items() if name not in NO_HEADERS})
        for name, value in (item for table in tables for item in table.items()):
            if not NO_SECRET_HEADER.fullmatch(name):
                yield from (text for text in _texts(value, secret=True) if not NO_SECRET_VALUE.fullmatch(text))

    @classmethod
    def from_environment(cls, name: str, environment: Mapping[str, str] = os.environ) -> "Connection | None":
        """Return the connection `name` from AIRFLOW_CONN_<NAME>, or None if that is not set. Raises ContractError."""
        text = environment.get(variable(name), "").strip()
        return cls.read(name, text) if text else None

    @classmethod
    def read(cls, name: str, text: str) -> "Connection":
        """Return the connection `name` from its JSON or URI. Raises ContractError, which does not quote the text."""
        try:
            return cls.model_validate(json.loads(text) if text.startswith("{") else _of_uri(text))
        except ValueError:  # its message would quote the value, with the password
            raise ContractError(
                f"{variable(name)} is neither a URI such as postgres://user:password@host:5432/database nor JSON with "
                "conn_type, host, login, password, port, schema and extra: correct the connection"
            ) from None


def variable(name: str) -> str:
    """Return the environment variable of the connection `name`."""
    return PREFIX + name.upper()


def _texts(value: Any, secret: bool) -> Iterator[str]:
    """Yield the texts in `value`: all of them if it is secret, else those below a secret key."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, secret or bool(SECRET.search(str(key))))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, secret)
    elif secret and isinstance(value, str):
        yield value


def _public(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _public(inner) for key, inner in value.items() if not SECRET.search(str(key))}
    return [_public(inner) for inner in value] if isinstance(value, list) else value


def _of_uri(uri: str) -> dict[str, Any]:
    """Return the fields of Airflow's URI form; its query is `extra`, or `__extra__` as JSON.

    A host may have a protocol of its own: http://https://api.example.org is of type http, at https://api.example.org.
    """
    kind, _, rest = uri.partition("://")
    protocol, separator, _ = rest.partition("://")
    parts = urlsplit(uri if not separator else f"{kind}://{rest.removeprefix(protocol + separator)}")
    if not kind or not parts.scheme:
        raise ValueError
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    extra = json.loads(query["__extra__"]) if "__extra__" in query else query
    host = re.sub(r":\d*$", "", parts.netloc.rpartition("@")[2])  # urlsplit's own `hostname` is in lower case
    host = unquote(host.strip("[]"))
    return {
        "conn_type": parts.scheme,
        "host": f"{protocol}://{host}" if separator else host,
        "login": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "port": parts.port,
        "schema": unquote(parts.path.removeprefix("/")),
        "extra": extra,
    }
