"""Read the rows of a JSON document one at a time, however long it is."""

from collections.abc import Iterator
from itertools import chain
from typing import IO, Any

import ijson

CHUNK = 1 << 16  # characters

TOO_MANY_DIGITS = "it is damaged: a number has too many digits"

# ijson 3.6 crashes the process at an integer that `int` refuses: one of more than 4,300 digits outside a string.
_SHAPE = bytes.maketrans(b"123456789,[- \t\r\n", b"0" * 9 + b":" * 7)
_LONG_INTEGER = b":" + b"0" * 4300

ERRORS = ("error", "errors")  # keys of an answer that says why it has no list

Event = tuple[str, Any]  # of ijson, such as ("start_map", None), ("map_key", "a"), ("number", 1)


class JsonError(ValueError):
    """A document has no list of rows. The message says what it has instead."""


class DamagedJsonError(JsonError):
    """A document is not JSON, or is cut off."""


class JsonDocument:
    """A JSON document that is, or contains, a list of rows. Numbers with a fraction or an exponent are Decimals.

    :ivar rest: the document without its rows, once they have been read
    """

    def __init__(self, file: IO[str], place: str = "", *, omits_empty: bool = False) -> None:
        """
        :param place: of the list, such as `data.items`; "" for the only list of objects in the document
        :param omits_empty: a list that is not in its object is empty
        """
        self.rest: dict[str, Any] = {}
        self._events: Iterator[Event] = ijson.basic_parse(ijson.from_iter(_chunks(file)))
        self._place, self._omits_empty = place, omits_empty
        self._rows_at = ""  # the place where the rows were
        self._empty_list = False  # there was an empty list, perhaps of rows
        self._without: dict[str, Any] | None = None  # the object at whose end the list had not come

    def rows(self) -> Iterator[Any]:
        """Yield the rows. Raises JsonError or DamagedJsonError, also after some rows."""
        try:
            yield from self._document()
        except ijson.JSONError as error:
            raise DamagedJsonError(f"it is damaged, or ends too early: {_reason(error)}") from None
        except ArithmeticError:  # an exponent beyond Decimal's
            raise DamagedJsonError(TOO_MANY_DIGITS) from None
        except RecursionError:
            raise DamagedJsonError("it is damaged: values are nested too deeply") from None
        if self._rows_at or self._empty_list:
            return
        may_be_empty = self._without is not None and not any(map(_says_why, self._on_the_way()))
        if may_be_empty and self._omits_empty:
            return
        keys = ", ".join(list(self.rest)[:10])
        what = f"no list at {self._place}" if self._place else "no list of rows"
        hint = ". If the API leaves out an empty list, set omits_empty_rows = true" if may_be_empty else ""
        raise JsonError(f"it has {what}" + (f"; it has {keys}" if keys else "") + hint)

    def _on_the_way(self) -> Iterator[dict[str, Any]]:
        """Yield the objects from the document to the one that should have the list."""
        value: Any = self.rest
        for key in self._place.split("."):
            if isinstance(value, dict):
                yield value
                value = value.get(key)

    def _document(self) -> Iterator[Any]:
        event, value = next(self._events)
        if event == "start_array" and not self._place:
            self._rows_at = "the document"
            yield from _elements(self._events)
        elif event == "start_map":
            yield from self._members(self.rest, self._place, "")
        else:
            _value(self._events, event, value)
        for _ in self._events:  # raises JSONError if something follows
            pass

    def _members(self, into: dict[str, Any], place: str, path: str) -> Iterator[Any]:
        """Read an object into `into`, and yield the rows of the list in it.

        :param place: of the list, seen from here
        :param path: of the object, seen from the document
        """
        for event, key in self._events:
            if event == "end_map":
                if place and "." not in place and place not in into:
                    self._without = into
                return
            own = f"{path}.{key}" if path else key
            event, value = next(self._events)
            if event == "start_map" and (not self._place or place.startswith(f"{key}.")):
                into[key] = {}
                yield from self._members(into[key], place.removeprefix(f"{key}."), own)
            elif event == "start_array" and (not self._place or place == key):
                yield from self._list(into, key, own)
            else:
                into[key] = _value(self._events, event, value)
                if self._place and place == key and into[key] is None:
                    self._rows_at = own  # null in place of an empty list

    def _list(self, into: dict[str, Any], key: str, own: str) -> Iterator[Any]:
        """Yield the elements of a list of rows, or put another list into `into`."""
        first = next(self._events)
        events = chain([first], self._events)
        if not self._place and first[0] != "start_map":
            into[key] = list(_elements(events))
            self._empty_list |= not into[key]
            return
        if self._rows_at:
            raise JsonError(f"it has lists at {self._rows_at} and at {own}: name the one with the rows by `rows`")
        into[key], self._rows_at = None, own
        yield from _elements(events)


def _says_why(members: dict[str, Any]) -> bool:
    """Return whether an object without the list has an error, or objects in another list: the list may be renamed."""
    return any(members.get(key) for key in ERRORS) or any(
        isinstance(value, list) and any(isinstance(element, dict) for element in value) for value in members.values()
    )


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


def _chunks(file: IO[str]) -> Iterator[bytes]:
    """Yield a text file as the bytes that ijson reads. Raises DamagedJsonError at an integer that would crash it."""
    recent = b":"
    while text := file.read(CHUNK):
        chunk = text.encode()
        recent += chunk.translate(_SHAPE)
        if _LONG_INTEGER in recent:
            raise DamagedJsonError(TOO_MANY_DIGITS)
        recent = recent[-len(_LONG_INTEGER) :]
        yield chunk


def _value(events: Iterator[Event], event: str, value: Any) -> Any:
    """Return the value that begins with this event."""
    if event == "start_array":
        return list(_elements(events))
    if event != "start_map":
        return value
    members = {}
    for event, key in events:
        if event == "end_map":
            break
        members[key] = _value(events, *next(events))
    return members


def _elements(events: Iterator[Event]) -> Iterator[Any]:
    for event, value in events:
        if event == "end_array":
            return
        yield _value(events, event, value)


def _reason(error: ijson.JSONError) -> str:
    """Return the parser's message in one line, without the arrow that it draws."""
    message = error.args[0]
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    return " ".join(text.partition("(right here)")[0].split()).rstrip(".")
