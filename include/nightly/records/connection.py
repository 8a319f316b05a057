"""How to reach a source: the address and the credentials of an Airflow connection.

Airflow resolves the connection and hands it to the download's process in the environment variable that Airflow itself
reads, AIRFLOW_CONN_<ID>. `bin/night` has no Airflow, and reads the same variable. It is never saved.
"""

import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import ConfigDict, Field, SecretStr

from nightly.records.base import Contract, ContractError

PREFIX = "AIRFLOW_CONN_"


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

    def dump(self) -> str:
        """Return the JSON that `from_environment` and Airflow read. It has the password in plain text."""
        return json.dumps(
            {
                **self.model_dump(by_alias=True, exclude={"password"}),
                "password": self.password.get_secret_value(),
            }
        )

    @classmethod
    def from_environment(cls, name: str, environment: Mapping[str, str] = os.environ) -> "Connection | None":
        """Return the connection `name` from AIRFLOW_CONN_<NAME>, or None. Raises ContractError, without the value."""
        text = environment.get(variable(name), "").strip()
        if not text:
            return None
        try:
            return cls.model_validate(json.loads(text) if text.startswith("{") else _of_uri(text))
        except ValueError:  # its message would quote the value, with the password
            raise ContractError(
                f"{variable(name)} is neither a URI such as postgres://user:password@host:5432/database nor JSON with "
                "conn_type, host, login, password, port, schema and extra"
            ) from None


def variable(name: str) -> str:
    """Return the environment variable of the connection `name`."""
    return PREFIX + name.upper()


def _of_uri(uri: str) -> dict[str, Any]:
    """Return the fields of Airflow's URI form; its query is `extra`, or `__extra__` as JSON."""
    parts = urlsplit(uri)
    if not parts.scheme:
        raise ValueError
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    extra = json.loads(query["__extra__"]) if "__extra__" in query else query
    return {
        "conn_type": parts.scheme.replace("-", "_"),
        "host": unquote(parts.hostname or ""),
        "login": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "port": parts.port,
        "schema": unquote(parts.path.removeprefix("/")),
        "extra": extra,
    }
