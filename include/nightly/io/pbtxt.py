"""Protobuf's text format without protobuf: where each field of a text is. Both sides read a model's schema.pbtxt by it.

It knows only as much of the syntax as it takes to find a field. The ML side parses the same text with protobuf, too.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from nightly.io.errors import UserError

TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<open>[{<]) | (?P<close>[}>]) | (?P<colon>:)
      | (?P<list>\[[^\]]*\])
      | (?P<end>[;,])
      | (?P<word>[^\s{}<>:;,\[\]"'\#]+)
      | (?P<space>\s+)""",
    re.VERBOSE,
)


class TextFormatError(UserError):
    """The text is not in text format; the message quotes where."""


@dataclass
class Field:
    """A field's place in the text."""

    name: str
    start: int
    end: int = 0
    value: tuple[int, int] = (0, 0)  # of a scalar: its text; of a message: what is between the braces
    fields: list["Field"] = field(default_factory=list)

    def all(self, name: str) -> list["Field"]:
        return [one for one in self.fields if one.name == name]

    def one(self, name: str) -> "Field | None":
        return next(iter(self.all(name)), None)


def parse(text: str) -> Field:
    """Return the whole message, of no name. Raises TextFormatError."""
    root = Field("", 0, len(text), (0, len(text)))
    meant = [token for token in tokens(text) if token.lastgroup not in ("comment", "space", "end")]
    if _fields(meant, 0, root) != len(meant):
        raise TextFormatError("a brace is closed that was never opened")
    return root


def read(text: str, place: Field) -> str:
    """Return a scalar's text, without quotes."""
    return text[slice(*place.value)].strip("\"'")


def tokens(text: str) -> Iterator[re.Match[str]]:
    """Every token, comments and spaces too. Raises TextFormatError."""
    place = 0
    while place < len(text):
        token = TOKEN.match(text, place)
        if token is None:
            raise TextFormatError(f"cannot read the schema's text at {text[place : place + 40]!r}")
        yield token
        place = token.end()


def _fields(tokens: list[re.Match[str]], at: int, parent: Field) -> int:
    """The fields of `parent` from token `at` on; where its closing brace is, or the end."""
    while at < len(tokens) and tokens[at].lastgroup != "close":
        one = Field(tokens[at][0], tokens[at].start())
        if tokens[at].lastgroup not in ("word", "list"):
            raise TextFormatError(f"a field's name was expected where the schema's text has {tokens[at][0]!r}")
        at += 1
        if at < len(tokens) and tokens[at].lastgroup == "colon":
            at += 1
        if at < len(tokens) and tokens[at].lastgroup == "open":
            begin = tokens[at].end()
            at = _fields(tokens, at + 1, one)
            if at >= len(tokens):
                raise TextFormatError(f"{one.name} has no closing brace")
            one.value, one.end = (begin, tokens[at].start()), tokens[at].end()
            at += 1
        else:
            begin = at
            while at < len(tokens) and tokens[at].lastgroup == "string":  # adjacent strings are one
                at += 1
            at += at == begin
            if at > len(tokens):
                raise TextFormatError(f"{one.name} has no value")
            one.value = tokens[begin].start(), tokens[at - 1].end()
            one.end = one.value[1]
        parent.fields.append(one)
    return at
