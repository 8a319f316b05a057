"""Edit the text of a schema in place, to keep people's comments and order, which protobuf's text format loses.

include/nightly/checks/schema_proposal.py parses the edited text with protobuf and compares the result.
"""

import re
from collections.abc import Iterator

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.io import pbtxt
from nightly.io.errors import UserError
from nightly.io.pbtxt import Field


class SchemaEditError(UserError):
    """The text has a form that this module cannot edit; a person has to."""


class SchemaText:
    """A schema's text with pending edits, which `edited` applies."""

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self.root = pbtxt.parse(text)
        except pbtxt.TextFormatError as error:
            raise SchemaEditError(str(error)) from None
        self._edits: list[tuple[int, int, str]] = []

    def feature(self, name: str) -> Field:
        """Return the feature of this name. Raises SchemaEditError unless there is exactly one."""
        return self._named("feature", name)

    def domain(self, feature: str, kind: str) -> Field:
        """Return a feature's domain of this kind (string_domain, int_domain, float_domain): its own, or the shared one.

        Raises SchemaEditError if it has none.
        """
        field = self.feature(feature)
        if own := field.one(kind):
            return own
        shared = field.one("domain")
        if shared is None:
            raise SchemaEditError(f"{feature} has no {kind}")
        return self._named(kind, self.read(shared))

    def read(self, field: Field) -> str:
        """Return a scalar's text, without quotes."""
        return pbtxt.read(self.text, field)

    def replace(self, field: Field, value: str) -> None:
        """Replace a field's value."""
        self._edits.append((*field.value, value))

    def rename(self, field: Field, name: str) -> None:
        """Replace a field's name."""
        self._edits.append((field.start, field.start + len(field.name), name))

    def remove(self, field: Field) -> None:
        """Remove a field; the comments inside it stay in its place."""
        inside = "".join(f"{comment[0]}\n" for comment in _comments(self.text[field.start : field.end]))
        line = self.text.rfind("\n", 0, field.start) + 1
        alone = not self.text[line : field.start].strip() and self.text.startswith("\n", field.end)
        self._edits.append((line, field.end + 1, inside) if alone else (field.start, field.end, inside))

    def append(self, field: Field, after: str, lines: list[str]) -> None:
        """Insert `lines` after the last field `after` of `field`: on lines of their own, or on its line if shared."""
        last = next(reversed(field.all(after)), None)
        if last is None:
            raise SchemaEditError(f"{field.name} has no {after} to put another behind")
        self._insert_after(last, lines)

    def add_feature(self, lines: list[str]) -> None:
        """Append a feature with the fields in `lines`."""
        self.append(self.root, "feature", ["\n".join(["feature {", *(f"  {line}" for line in lines), "}"])])

    def edited(self) -> str:
        """Return the text with all edits."""
        text = self.text
        for start, end, new in sorted(self._edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def _insert_after(self, last: Field, lines: list[str]) -> None:
        line = self.text.rfind("\n", 0, last.start) + 1
        indent = self.text[line : last.start]
        rest = re.compile(r"[;,]?[ \t]*(#[^\n]*)?(?=\n|\Z)").match(self.text, last.end)
        if indent.strip() or rest is None:
            self._edits.append((last.end, last.end, "".join(f" {new}" for new in lines)))
        else:
            self._edits.append((rest.end(), rest.end(), "".join(f"\n{indent}{new}" for new in lines)))

    def _named(self, kind: str, name: str) -> Field:
        matches = [field for field in self.root.all(kind) if (own := field.one("name")) and self.read(own) == name]
        if len(matches) != 1:
            raise SchemaEditError(f"the text has {len(matches)} {kind} of the name {name!r}")
        return matches[0]


def comments(text: str) -> list[str]:
    """Return every comment, in order."""
    return [comment[0].rstrip() for comment in _comments(text)]


def quoted(value: str) -> str:
    """Return a string literal of the text format."""
    message = text_format.MessageToString(schema_pb2.StringDomain(name=value), as_utf8=True)
    return message.removeprefix("name: ").rstrip("\n")


def _comments(text: str) -> Iterator[re.Match[str]]:
    return (token for token in pbtxt.tokens(text) if token.lastgroup == "comment")
