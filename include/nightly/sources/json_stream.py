"""Read the rows of a JSON document one at a time, however long it is."""

import json
from collections.abc import Iterator
from typing import IO, Any

CHUNK = 1 << 16  # characters
LONGEST = 1 << 26  # characters of one row, or of one value beside the rows

_DECODER = json.JSONDecoder()


class JsonError(ValueError):
    """A document has no list of rows. The message says what it has instead."""


class DamagedJsonError(JsonError):
    """A document is not JSON, or is cut off."""


class JsonDocument:
    """A JSON document that is, or contains, a list of rows.

    :ivar rest: the document without its rows, once they have been read
    """

    def __init__(self, file: IO[str], place: str = "") -> None:
        """
        :param place: of the list, such as `data.items`; "" for the only list of objects in the document
        """
        self.rest: dict[str, Any] = {}
        self._text = _Text(file)
        self._place = place
        self._found = ""  # the place where the rows were

    def rows(self) -> Iterator[Any]:
        """Yield the rows. Raises JsonError or DamagedJsonError, also after some rows."""
        try:
            if self._text.peek() == "[" and not self._place:
                yield from self._elements()
                self._found = "the document"
            elif self._text.peek() == "{":
                yield from self._members(self.rest, self._place, "")
            else:
                self._text.value()
            if self._text.peek():
                raise DamagedJsonError("something follows the JSON document")
        except RecursionError:
            raise DamagedJsonError("values are nested too deeply") from None
        if not self._found:
            keys = ", ".join(list(self.rest)[:10])
            what = f"no list at {self._place}" if self._place else "no list of rows"
            raise JsonError(f"it has {what}" + (f"; it has {keys}" if keys else ""))

    def _members(self, into: dict[str, Any], place: str, path: str) -> Iterator[Any]:
        """Read an object into `into`, and yield the rows of the list in it.

        :param place: of the list, seen from here
        :param path: of the object, seen from the document
        """
        text = self._text
        text.take("{")
        while text.peek() != "}":
            key = text.value()
            if not isinstance(key, str):
                raise DamagedJsonError(f"{key!r} stands where a key should")
            text.take(":")
            own, kind = f"{path}.{key}" if path else key, text.peek()
            on_the_way = place.startswith(f"{key}.") if place else True
            if kind == "{" and on_the_way:
                into[key] = {}
                yield from self._members(into[key], place.removeprefix(f"{key}.") if place else "", own)
            elif kind == "[" and (place == key or (not place and not self._place and text.begins_a_list_of_objects())):
                if self._found and self._found != "a list":
                    raise JsonError(f"it has lists at {self._found} and at {own}: name the one with the rows by `rows`")
                yield from self._elements()
                into[key], self._found = None, own
            else:
                into[key] = text.value()
                if place == key and into[key] is None:
                    self._found = own  # null in place of an empty list
                elif not self._place and into[key] == []:
                    self._found = self._found or "a list"  # an empty list of whatever
            if text.peek() == ",":
                text.take(",")
            elif text.peek() != "}":
                raise DamagedJsonError(f"{text.peek()!r} stands where , or }} should")
        text.take("}")

    def _elements(self) -> Iterator[Any]:
        text = self._text
        text.take("[")
        while text.peek() != "]":
            yield text.value()
            if text.peek() == ",":
                text.take(",")
            elif text.peek() != "]":
                raise DamagedJsonError(f"{text.peek()!r} stands where , or ] should")
        text.take("]")


def dig(value: Any, place: str) -> Any:
    """Return what is at a place such as `meta.next` or `links.0.url`; None if there is nothing. A key may have dots."""
    if isinstance(value, list):
        head, _, rest = place.partition(".")
        element = value[int(head)] if head.isdecimal() and int(head) < len(value) else None
        return dig(element, rest) if rest else element
    if not isinstance(value, dict):
        return None
    if place in value:
        return value[place]
    heads = [key for key in value if place.startswith(f"{key}.")]
    return dig(value[max(heads, key=len)], place.removeprefix(f"{max(heads, key=len)}.")) if heads else None


class _Text:
    """The text of a file, read as far as it is needed."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.text, self.at = file, "", 0

    def peek(self) -> str:
        """Return the next character that is no white space; "" at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in " \t\r\n":
                    return self.text[self.at]
                self.at += 1
            if not self._more():
                return ""

    def take(self, expected: str) -> None:
        if self.peek() != expected:
            raise DamagedJsonError(
                f"{self.peek()!r} stands where {expected} should" if self.peek() else "it ends too early"
            )
        self.at += 1

    def value(self) -> Any:
        """Return the next value."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except ValueError:
                if len(self.text) - self.at > LONGEST:
                    raise DamagedJsonError(f"a value is longer than {LONGEST >> 20} MiB, or damaged") from None
                begins = self.text[self.at : self.at + 40]
                if not self._more():
                    raise DamagedJsonError(f"it is damaged, or ends too early, at {begins!r}") from None
                continue
            ended = isinstance(value, str | dict | list) or self.text[end : end + 1] in tuple(" \t\r\n,]}")
            if not ended and self._more():
                continue  # a number may go on in what was read now
            self.at = end
            return value

    def begins_a_list_of_objects(self) -> bool:
        """Return whether what follows is a list whose first element is an object. Takes nothing."""
        at = self.at + 1
        while True:
            rest = self.text[at:].lstrip(" \t\r\n")
            if rest:
                return rest[0] == "{"
            offset = at - self.at
            if not self._more():
                return False
            at = self.at + offset

    def _more(self) -> bool:
        # As much again as there is: a long value is parsed anew a few times, not once a chunk.
        chunk = self.file.read(max(CHUNK, len(self.text) - self.at))
        self.text, self.at = self.text[self.at :] + chunk, 0
        return bool(chunk)
