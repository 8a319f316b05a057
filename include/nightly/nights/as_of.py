"""The as-of time that a person asks a night for."""

import datetime as dt

from nightly.records.base import ContractError


def read_as_of(text: str, now: dt.datetime) -> dt.datetime:
    """Return the moment that `text` names, in UTC unless it says otherwise. Raises ContractError for no date and for
    one after `now`."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ContractError(f"as_of {text!r} is no date; write 2016-03-01 or 2016-03-01T03:00:00+00:00") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    if moment > now:
        raise ContractError(f"as_of {text} is in the future: the latest possible is now, {now:%Y-%m-%dT%H:%M}Z")
    return moment
