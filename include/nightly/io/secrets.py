"""Keep passwords out of logs, errors and records: the last line of defence, behind code that never quotes them."""

import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 4  # characters; masking a shorter value would also mask parts of common words
USERINFO = re.compile(r"(?<=://)[^/\s@'\"]*:[^/\s'\"]*(?=@)")  # user:password of a URL or DSN

_hidden: set[str] = set()


def hide(values: Iterable[str]) -> None:
    """Have `masked` replace these values from now on in this process, also as a URL or JSON would write them."""
    for value in values:
        lines = value.splitlines()  # a log shows a private key line by line
        for text in (value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1], *lines):
            if len(text.strip()) >= SHORTEST:
                _hidden.add(text.strip())


def masked(text: str) -> str:
    """Return the text with *** in place of each hidden value, and of the user and password in each URL."""
    for value in sorted(_hidden, key=len, reverse=True):
        text = text.replace(value, MASK)
    return USERINFO.sub(MASK, text)


def has_userinfo(address: str) -> bool:
    """Return whether a URL has a user and a password in it."""
    return bool(USERINFO.search(address))
