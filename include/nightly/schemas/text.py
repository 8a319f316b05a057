"""Edits the text of a schema where it has to change, and nowhere else: its comments and its order are a person's work.

protobuf's own text format loses both. What is edited is parsed again by protobuf, and compared
(include/nightly/checks/schema_proposal.py).
"""

import re
from collections.abc import Iterator

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.io import pbtxt
from nightly.io.errors import UserError
from nightly.io.pbtxt import Field


class SchemaEditError(UserError):
    """The text is written in a way that cannot be edited; a person has to."""


class SchemaText:
    """A schema's text; edits are collected, and made all at once by `edited`."""

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self.root = pbtxt.parse(text)
        except pbtxt.TextFormatError as error:
            raise SchemaEditError(str(error)) from None
        self._edits: list[tuple[int, int, str]] = []

    def feature(self, name: str) -> Field:
        """Raises SchemaEditError."""
        return self._named("feature", name)

    def domain(self, feature: str, kind: str) -> Field:
        """A feature's own domain (string_domain, int_domain, float_domain), or the one that it names."""
        place = self.feature(feature)
        if own := place.one(kind):
            return own
        named = place.one("domain")
        if named is None:
            raise SchemaEditError(f"{feature} has no {kind}")
        return self._named(kind, self.read(named))

    def read(self, place: Field) -> str:
        """A scalar's text, without quotes."""
        return pbtxt.read(self.text, place)

    def replace(self, place: Field, value: str) -> None:
        self._edits.append((*place.value, value))

    def rename(self, place: Field, name: str) -> None:
        self._edits.append((place.start, place.start + len(place.name), name))

    def remove(self, place: Field) -> None:
        """Its comments stay where it was."""
        inside = "".join(f"{one[0]}\n" for one in _comments(self.text[place.start : place.end]))
        line = self.text.rfind("\n", 0, place.start) + 1
        alone = not self.text[line : place.start].strip() and self.text.startswith("\n", place.end)
        self._edits.append((line, place.end + 1, inside) if alone else (place.start, place.end, inside))

    def append(self, place: Field, after: str, lines: list[str]) -> None:
        """Put `lines` behind the last field `after` of `place`, in its style: on lines of their own, or on its line."""
        last = next(reversed(place.all(after)), None)
        if last is None:
            raise SchemaEditError(f"{place.name} has no {after} to put another behind")
        self._insert_behind(last, lines)

    def add_feature(self, lines: list[str]) -> None:
        self.append(self.root, "feature", ["\n".join(["feature {", *(f"  {line}" for line in lines), "}"])])

    def edited(self) -> str:
        text = self.text
        for start, end, new in sorted(self._edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def _insert_behind(self, last: Field, lines: list[str]) -> None:
        line = self.text.rfind("\n", 0, last.start) + 1
        indent = self.text[line : last.start]
        rest = re.compile(r"[;,]?[ \t]*(#[^\n]*)?(?=\n|\Z)").match(self.text, last.end)
        if indent.strip() or rest is None:
            self._edits.append((last.end, last.end, "".join(f" {one}" for one in lines)))
        else:
            self._edits.append((rest.end(), rest.end(), "".join(f"\n{indent}{one}" for one in lines)))

    def _named(self, kind: str, name: str) -> Field:
        found = [one for one in self.root.all(kind) if (inner := one.one("name")) and self.read(inner) == name]
        if len(found) != 1:
            raise SchemaEditError(f"the text has {len(found)} {kind} of the name {name!r}")
        return found[0]


def comments(text: str) -> list[str]:
    """Every comment, in order."""
    return [one[0].rstrip() for one in _comments(text)]


def quoted(value: str) -> str:
    """As the text format writes a string."""
    message = text_format.MessageToString(schema_pb2.StringDomain(name=value), as_utf8=True)
    return message.removeprefix("name: ").rstrip("\n")


def _comments(text: str) -> Iterator[re.Match[str]]:
    return (token for token in pbtxt.tokens(text) if token.lastgroup == "comment")
