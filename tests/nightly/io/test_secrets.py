"""Passwords do not leave a process in its log or its errors."""

import logging

import pytest

from nightly.io import secrets
from nightly.io.secrets import has_userinfo, hide, masked
from nightly.runtime import worker


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch):
    monkeypatch.setattr(secrets, "_hidden", set())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "could not connect to postgres://mary:p@ss:w@db:5432/rows",
            "could not connect to postgres://***@db:5432/rows",
        ),
        ("https://:token@api.example.org/v1", "https://***@api.example.org/v1"),
        ("abfss://container@account.dfs.core.windows.net/a@b", "abfss://container@account.dfs.core.windows.net/a@b"),
        ("http://localhost:8080/a, mail to mary@example.org", "http://localhost:8080/a, mail to mary@example.org"),
    ],
)
def test_the_user_and_password_of_a_url_are_masked(text, shown):
    assert masked(text) == shown and has_userinfo(text) is ("***" in shown)


def test_a_hidden_value_is_masked_however_it_is_written():
    hide(['a "quoted" p&ss', "-----BEGIN-----\nline one\nline two", "abc"])
    assert masked('a "quoted" p&ss; a%20%22quoted%22%20p%26ss; a \\"quoted\\" p&ss') == "***; ***; ***"
    assert masked("key: line two") == "key: ***"
    assert masked("abcdef") == "abcdef", "too short to be replaced everywhere"


def test_a_steps_log_its_traceback_and_its_error_have_no_password(tmp_path, capsys, monkeypatch):
    hide(["open sesame"])

    def step(night_folder, paths):
        logging.getLogger("nightly").info("connecting with %s", "open sesame")
        raise ValueError("connection to postgresql://mary:other@db/x failed: open sesame is wrong")

    monkeypatch.setattr(worker, "step_function", lambda name: step)
    handlers = logging.getLogger().handlers
    try:
        worker.run("download", tmp_path, tmp_path / "result.json")
    finally:
        logging.getLogger().handlers = handlers
    written = capsys.readouterr().err + (tmp_path / "result.json").read_text()
    assert written.count("connection to postgresql://***@db/x failed: *** is wrong") >= 2
    assert "INFO nightly: connecting with ***" in written and "Traceback" in written
    assert "sesame" not in written and "other" not in written
