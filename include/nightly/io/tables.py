"""Tables of text for terminals and logs."""

from collections.abc import Collection, Sequence
from typing import Any

CELL = 40  # most characters of a value
SHOWN = 4  # values of a list


def cell(value: object) -> str:
    """Return the value in one line, shortened; "" for None."""
    text = "" if value is None else " ".join(shown(value).split())
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def shown(value: Any) -> str:
    """Return a feature's value for a person: bytes as their size, a list by its first values."""
    if isinstance(value, dict) and value.keys() == {"b64"}:  # bytes as JSON has them
        return f"{len(value['b64']) * 3 // 4 - value['b64'][-2:].count('='):,} bytes"
    if isinstance(value, (bytes, memoryview)):
        return f"{len(value):,} bytes"
    if isinstance(value, (list, tuple)):
        first = [repr(cell(entry)) if isinstance(entry, str) else shown(entry) for entry in value[:SHOWN]]
        return f"[{', '.join(first)}{f', … {len(value):,} values' if len(value) > SHOWN else ''}]"
    return str(value)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> None:
    """Print the table's `aligned` lines; `header` may be []."""
    for line in aligned([header, *rows] if header else rows, right):
        print(line)


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Return each row as a line, with columns as wide as their widest cell.

    :param right: the indices of the right-aligned columns
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [f"{c:>{w}}" if n in right else f"{c:<{w}}" for n, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines
