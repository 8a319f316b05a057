"""A step's lines in its task's log."""

import logging

from nightly_airflow.hooks.step_log import logged

LINES = """\
INFO nightly: it begins
ERROR nightly: it failed
Traceback (most recent call last):
I0000 00:00:1795394992.259580   21893 postgresql.cc:967] connected
WARNING nightly.tfx: postgres://user:planted@host/db is slow
"""


def test_each_line_has_its_own_level_and_a_traceback_that_of_its_error(caplog):
    caplog.set_level(logging.INFO)
    texts = list(logged(LINES.splitlines(keepends=True), logging.getLogger("task")))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "it begins"),
        ("ERROR", "it failed"),
        ("ERROR", "Traceback (most recent call last):"),
        ("WARNING", "postgres://***@host/db is slow"),
    ]
    assert texts == [record.getMessage() for record in caplog.records]
