"""Which values of a connection are secret."""

import pytest

from nightly.records.connection import Connection


@pytest.mark.parametrize(
    "extra",
    [
        {"headers": {"X-Api-Key": "planted"}},
        {"headers": {"Cookie": "planted"}},
        {"headers": {"Ocp-Apim-Subscription-Key": "planted"}},
        {"headers": {"X-Something": "planted-in-a-header"}},
        {"params": {"key": "planted"}},
        {"params": {"appid": "planted"}},
        {"params": {"who": "planted-in-a-parameter"}},
        {"api-key": "planted"},
        {"X-Something": "planted-in-the-extra"},
        {"auth_kwargs": {"client_secret": "planted"}},
    ],
)
def test_what_is_sent_to_an_api_is_secret(extra):
    (secret,) = set(Connection(conn_type="http", extra=extra).secrets())
    assert secret.startswith("planted")


def test_what_is_in_every_log_is_not_secret():
    headers = {"Accept": "application/json", "User-Agent": "nightly-retrain", "X-Api-Version": "version-1", "A": "yes"}
    params = {"format": "json", "since": "2016-01-01"}
    assert Connection(extra={"headers": headers, "params": params, "path": "/v1/trips"}).secrets() == []
    assert Connection(conn_type="postgres", extra={"options": "-c statement_timeout=10min"}).secrets() == []
