"""A night, of which a test says only what it is about."""

import datetime as dt
from typing import Any

from nightly.records.night import Night


def a_night(**changes: Any) -> Night:
    """Tonight's of taxi, as of 2016-03-01 over a year, with `changes`; it is planned at its as-of time."""
    as_of = changes.get("as_of", dt.datetime(2016, 3, 1, tzinfo=dt.UTC))
    given = {
        "model": "taxi",
        "run_id": "tonight",
        "trigger": "command",
        "requested_by": "tests",
        "as_of": as_of,
        "window_start": as_of - dt.timedelta(days=365),
        "release": True,
        "train_steps": 1,
        "code_version": "tests",
        "planned_at": as_of,
    }
    return Night(**given | changes)


def utc(*date: int) -> dt.datetime:
    return dt.datetime(*date, tzinfo=dt.UTC)
