"""Tables of text for a terminal."""

from collections.abc import Collection, Sequence

CELL = 40  # characters of a value


def cell(value: object) -> str:
    """A value in one line, shortened; None is blank."""
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> None:
    """Columns as wide as their widest cell; those numbered in `right` are aligned there."""
    lines = [header, *rows] if header else rows
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [f"{c:>{w}}" if n in right else f"{c:<{w}}" for n, (c, w) in enumerate(zip(line, widths, strict=True))]
        print("  ".join(cells).rstrip())
