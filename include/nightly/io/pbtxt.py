"""A parser of protobuf's text format that keeps each field's position, without protobuf.

Both environments read a model's schema.pbtxt with it. It knows only the syntax needed to locate fields; the ML
environment also parses the text with protobuf.
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
    """The text is not in text format. The message quotes the position."""


@dataclass
class Field:
    """A field's position in the text."""

    name: str
    start: int
    end: int = 0
    value: tuple[int, int] = (0, 0)  # start and end of a scalar's text, or of a message's text between the braces
    fields: list["Field"] = field(default_factory=list)

    def all(self, name: str) -> list["Field"]:
        """Return the message's fields of this name."""
        return [child for child in self.fields if child.name == name]

    def one(self, name: str) -> "Field | None":
        """Return the message's first field of this name, or None."""
        return next(iter(self.all(name)), None)


def parse(text: str) -> Field:
    """Return the message as a field without a name. Raises TextFormatError."""
    root = Field("", 0, len(text), (0, len(text)))
    significant = [token for token in tokens(text) if token.lastgroup not in ("comment", "space", "end")]
    if _fields(significant, 0, root) != len(significant):
        raise TextFormatError("a brace is closed that was never opened")
    return root


def read(text: str, scalar: Field) -> str:
    """Return a scalar's text, without quotes."""
    return text[slice(*scalar.value)].strip("\"'")


def tokens(text: str) -> Iterator[re.Match[str]]:
    """Yield every token, including comments and whitespace. Raises TextFormatError."""
    position = 0
    while position < len(text):
        token = TOKEN.match(text, position)
        if token is None:
            raise TextFormatError(f"cannot read the schema's text at {text[position : position + 40]!r}")
        yield token
        position = token.end()


def _fields(tokens: list[re.Match[str]], at: int, parent: Field) -> int:
    """Append the fields from token `at` on to `parent`; return the index of its closing brace, or of the end."""
    while at < len(tokens) and tokens[at].lastgroup != "close":
        child = Field(tokens[at][0], tokens[at].start())
        if tokens[at].lastgroup not in ("word", "list"):
            raise TextFormatError(f"a field's name was expected where the schema's text has {tokens[at][0]!r}")
        at += 1
        if at < len(tokens) and tokens[at].lastgroup == "colon":
            at += 1
        if at < len(tokens) and tokens[at].lastgroup == "open":
            begin = tokens[at].end()
            at = _fields(tokens, at + 1, child)
            if at >= len(tokens):
                raise TextFormatError(f"{child.name} has no closing brace")
            child.value, child.end = (begin, tokens[at].start()), tokens[at].end()
            at += 1
        else:
            begin = at
            while at < len(tokens) and tokens[at].lastgroup == "string":  # adjacent strings form one value
                at += 1
            at += at == begin
            if at > len(tokens):
                raise TextFormatError(f"{child.name} has no value")
            child.value = tokens[begin].start(), tokens[at - 1].end()
            child.end = child.value[1]
        parent.fields.append(child)
    return at
