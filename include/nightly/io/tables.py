"""Tables of text, for a terminal and for logs."""

from collections.abc import Collection, Sequence

CELL = 40  # characters of a value


def cell(value: object) -> str:
    """A value in one line, shortened; None is blank."""
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> None:
    """Print `aligned` lines, the header first; [] is no header."""
    for line in aligned([header, *rows] if header else rows, right):
        print(line)


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Return each row as a line. Columns are as wide as their widest cell; those numbered in `right` align there."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [f"{c:>{w}}" if n in right else f"{c:<{w}}" for n, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines
