"""Convert a column that a reader passed on to its type in the snapshot."""

from typing import NamedTuple

import pyarrow as pa

from nightly.snapshots.columns import SnapshotSchema
from nightly.snapshots.lists import parse_bytes, parse_lists, wrong_lengths
from nightly.snapshots.parsing import parse_numbers
from nightly.snapshots.types import TYPES, is_list


class Fault(NamedTuple):
    """Rows of a column that are rejected for the same reason."""

    reason: str
    rows: pa.BooleanArray
    sentences: pa.StringArray | None = None  # what is wrong with each; None if the value itself says it


class Conversion(NamedTuple):
    """The types of a snapshot's columns, and what the curated schema says about their values."""

    columns: dict[str, str]  # column -> key of TYPES
    expected: SnapshotSchema

    def convert(self, name: str, values: pa.Array) -> tuple[pa.Array, list[Fault]]:
        """Return the column with its type, and the faults, whose rows are disjoint."""
        kind, image = self.columns[name], name in self.expected.images
        if kind in ("int64", "float"):
            values, bad = parse_numbers(values, TYPES[kind])
            return values, [Fault("number", bad)]
        if kind == "binary":
            values, sentences = parse_bytes(values, image=image)
            return values, [Fault("image" if image else "bytes", sentences.is_valid(), sentences)]
        if not is_list(kind):
            return values.cast(TYPES[kind]), []
        values, sentences = parse_lists(values, kind, image=image)
        faults = [Fault("list", sentences.is_valid(), sentences)]
        if length := self.expected.lengths.get(name):
            sentences = wrong_lengths(values, length)
            faults.append(Fault("length", sentences.is_valid(), sentences))
        return values, faults
