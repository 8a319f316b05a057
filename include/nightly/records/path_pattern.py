"""The path of a files source: a path or a URL, with globs, and with dates as in `{date:%Y/%m/%d}`."""

import datetime as dt
import re
from dataclasses import dataclass
from functools import cached_property

from nightly.io.hints import did_you_mean

DATE = re.compile(r"\{date:([^{}]*)\}")
STORES = ("s3", "gs", "az")
WEB = ("http", "https")
GLOB = re.compile(r"[*?\[]")
STEPS = {"hour": dt.timedelta(hours=1), "day": dt.timedelta(days=1)}


@dataclass(frozen=True)
class PathPattern:
    """A path with globs and dates. Raises ValueError if it is not valid.

    :ivar text: as in the config
    """

    text: str

    def __post_init__(self) -> None:
        scheme, separator, rest = self.text.partition("://")
        if separator and scheme not in (*STORES, *WEB):
            hint = did_you_mean(scheme, [*STORES, *WEB], otherwise="files are read from s3, gs, az, http and https")
            raise ValueError(f"{scheme}:// cannot be read: copy the files into a folder or bucket, or mount them{hint}")
        if separator and not rest.partition("/")[0]:
            raise ValueError(f"{self.text!r} names no bucket, container or host")
        if separator and "@" in rest.partition("/")[0]:
            raise ValueError(f"the {scheme}:// address has a user or password; put them into a connection instead")
        if "{date" in DATE.sub("", self.text):
            raise ValueError(f"{self.text!r} has a date that is not closed, or has no format; write {{date:%Y-%m-%d}}")
        _ = self.step

    @property
    def scheme(self) -> str:
        """s3, gs, az, http or https; "" for a local path."""
        scheme, separator, _ = self.text.partition("://")
        return scheme if separator else ""

    @cached_property
    def step(self) -> str:
        """The time that one date stands for: hour, day, month or year; "" without dates."""
        formats = DATE.findall(self.text)
        codes = set("".join(re.findall("%(.)", "".join(formats))))
        if not formats:
            return ""
        written = ", ".join(formats)
        if unknown := codes - set("YymbBdjH"):
            raise ValueError(f"the date {written!r} has %{min(unknown)}; valid are %Y, %m, %d, %j and %H")
        year, month = bool(codes & set("Yy")), bool(codes & set("mbB"))
        day, hour = (month and "d" in codes) or "j" in codes, "H" in codes
        if not year:
            raise ValueError(f"the date {written!r} has no year; write one like %Y-%m-%d")
        if ("d" in codes or hour) and not day:
            raise ValueError(f"the date {written!r} has a gap between its year and its smallest part; e.g. %Y/%m/%d/%H")
        return "hour" if hour else "day" if day else "month" if month else "year"

    @property
    def root(self) -> str:
        """The folder that has all files: what stands before the first glob or date. The text itself without either."""
        first = (
            DATE.search(self.text) if self.scheme in WEB else re.search(rf"{GLOB.pattern}|{DATE.pattern}", self.text)
        )
        return self.text[: first.start()].rpartition("/")[0] if first else self.text

    def expand(self, start: dt.datetime, end: dt.datetime) -> dict[str, dt.datetime | None]:
        """Return the path with each date of [start, end) in UTC -> when that date ends, or the path itself -> None."""
        if not self.step:
            return {self.text: None}
        paths: dict[str, dt.datetime | None] = {}
        moment = self._floor(start.astimezone(dt.UTC))
        while moment < end:
            following = self._next(moment)
            paths[self._at(moment)] = following
            moment = following
        return paths

    def _at(self, moment: dt.datetime) -> str:
        return DATE.sub(lambda match: moment.strftime(match[1]), self.text)

    def _floor(self, moment: dt.datetime) -> dt.datetime:
        moment = moment.replace(minute=0, second=0, microsecond=0)
        if self.step == "hour":
            return moment
        moment = moment.replace(hour=0)
        if self.step == "day":
            return moment
        return moment.replace(day=1) if self.step == "month" else moment.replace(day=1, month=1)

    def _next(self, moment: dt.datetime) -> dt.datetime:
        if self.step in STEPS:
            return moment + STEPS[self.step]
        days = 31 if self.step == "month" else 366
        return self._floor(moment + dt.timedelta(days=days))


def glob_regex(glob: str) -> str:
    """Return the regular expression of a glob: `*` and `?` do not match `/`, and `**/` matches any folders."""
    pattern, position = "", 0
    while position < len(glob):
        char = glob[position]
        closing = glob.find("]", position + 2) if char == "[" else -1
        if glob.startswith("**/", position):
            pattern, position = pattern + "(?:[^/]+/)*", position + 3
        elif glob.startswith("**", position):
            pattern, position = pattern + ".*", position + 2
        elif closing > 0:
            content = glob[position + 1 : closing].replace("\\", "\\\\")
            negated = content.startswith("!")
            pattern += f"[{'^' if negated else ''}{content.removeprefix('!')}]"
            position = closing + 1
        else:
            pattern += {"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char))
            position += 1
    return pattern
