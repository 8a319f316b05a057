"""Read JSON lines, one object a line, as batches of text columns.

Numbers keep the text that the file has, so a row is the same as in CSV. A list becomes a JSON array in text, as CSV has
it, and an absent key is a blank.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from nightly.snapshots.body import ROW, Body, as_text, decode, unmark
from nightly.snapshots.errors import UnreadableBodyError
from nightly.snapshots.rejects import Rejects
from nightly.snapshots.types import is_text

ROWS = 10_000  # in a batch
READ_BYTES = 1 << 20  # the most that is read at once
LINE_BYTES = 64 << 20  # the longest line
START = 1000  # characters kept of a line that is rejected

_decode = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str).decode

Row = tuple[int, str, dict[str, Any]]  # line number, line, object


def read_keys(body: Body) -> None:
    """Set the headers to the keys of all objects. Reads the whole body, since an object omits missing values.

    Raises UnreadableBodyError.
    """
    keys: dict[str, None] = {}
    for _, _, row in _objects(body, None):
        if not row.keys() <= keys.keys():
            keys |= dict.fromkeys(row)
    if not keys:
        why = f" ({body.truncated})" if body.truncated else ""
        raise UnreadableBodyError(
            f"{body.name} has no JSON object on a line of its own{why}: write each row as an object on a line of its "
            'own, e.g. {"city": "Chicago"}'
        )
    body.headers = list(keys)


def read_objects(
    body: Body, columns: dict[str, str], rejects: Rejects, kinds: dict[str, str]
) -> Iterator[pa.RecordBatch]:
    """Yield the body's objects as batches of text columns and ROW, the number of the line.

    Raises UnreadableBodyError for objects inside of an object: a row of a snapshot is flat.

    :param columns: key -> column name
    :param kinds: column -> its type in the snapshot
    """
    rows: list[Row] = []
    for row in _objects(body, rejects):
        rows.append(row)
        if len(rows) == ROWS:
            yield _batch(rows, body, columns, kinds)
            rows = []
    if rows:
        yield _batch(rows, body, columns, kinds)


def _batch(rows: list[Row], body: Body, columns: dict[str, str], kinds: dict[str, str]) -> pa.RecordBatch:
    arrays = []
    for key in body.headers:
        values = [row.get(key) for _, _, row in rows]
        try:
            texts = pa.array(values, pa.string())
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
            as_number = is_text(kinds[columns[key]]) and kinds[columns[key]] != "string"
            texts = pa.array([_text(row, key, body, as_number) for row in rows], pa.string())
        arrays.append(as_text(texts, body))
    numbers = pa.array(np.array([number for number, _, _ in rows], np.int64))
    return pa.RecordBatch.from_arrays([*arrays, numbers], [*(columns[key] for key in body.headers), ROW])


def _text(row: Row, key: str, body: Body, as_number: bool) -> str | None:
    """Return a value as text. A truth value is 1 or 0 in a column of numbers, as in Parquet."""
    number, line, values = row
    value = values.get(key)
    if isinstance(value, bool):
        return str(int(value)) if as_number else str(value).lower()
    if isinstance(value, list) and not any(isinstance(element, (dict, list)) for element in value):
        return json.dumps(json.loads(line)[key], ensure_ascii=False)
    if isinstance(value, (dict, list)):
        nested = "an object" if isinstance(value, dict) else "a list of lists or objects"
        raise UnreadableBodyError(
            f"{body.name}: {key} in line {number} is {nested}; a column holds values or lists of values: flatten it"
        )
    if isinstance(value, str) and not value.isascii():  # perhaps half of a surrogate pair
        return decode(value.encode("utf-8", "surrogatepass"), body)
    return value


def _objects(body: Body, rejects: Rejects | None) -> Iterator[Row]:
    """Yield the objects; reject the lines that are none."""
    for number, line, complete in _lines(body):
        try:
            row = _decode(line)
        except (ValueError, RecursionError) as error:
            if not complete:
                body.end("it ends in the middle of an object", line)
                return
            problem = str(error)
        else:
            if isinstance(row, dict):
                yield number, line, row
                continue
            problem = "no JSON object"
            if number == 1 and isinstance(row, list):
                raise UnreadableBodyError(f"{body.name} is one JSON array; write each of its objects on a line instead")
        if rejects:
            text = unmark(line[:START])
            rejects.add("record", "", file=body.name, row=number, value=f"{problem}: {text}", text=text)


def _lines(body: Body) -> Iterator[tuple[int, str, bool]]:
    """Yield the lines that are not blank: their numbers, their text, and whether their newline is there."""
    number, rest = 0, b""
    with body.open() as raw:
        read = getattr(raw, "read1", raw.read)  # truncated compressed data are read as far as they go
        while True:
            try:
                data = read(READ_BYTES)
            except EOFError as error:
                body.end(f"its compressed data end too early ({error})")
                data = b""
            if not data:
                break
            if not number and not rest:
                data = data.removeprefix(b"\xef\xbb\xbf")
            whole, newline, end = data.rpartition(b"\n")
            if not newline:
                rest += data
                if len(rest) > LINE_BYTES:
                    raise UnreadableBodyError(
                        f"{body.name}: line {number + 1} is longer than {LINE_BYTES >> 20} MiB; "
                        "JSON lines have one object a line"
                    )
                continue
            for line in decode(rest + whole, body).split("\n"):
                number += 1
                if line and not line.isspace():
                    yield number, line, True
            rest = end
    if rest.strip():
        yield number + 1, decode(rest, body), False
