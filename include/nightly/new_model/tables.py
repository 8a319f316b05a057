"""Read a data set once, in bounded memory: each column's type, range and missing values, and a sample of rows.

Types, ranges and missing values are exact. What is read off the sample says so where it is shown.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nightly.data import kinds
from nightly.data.bad_rows import BadRows
from nightly.data.proposals import lists_of
from nightly.io.hints import did_you_mean
from nightly.new_model.errors import NewModelError
from nightly.new_model.headers import refuse_headers, refuse_rows_as_headers, renamed, uneven
from nightly.records.data_config import column_name
from nightly.snapshots import readers
from nightly.snapshots.body import MARKED, ROW, Body
from nightly.snapshots.errors import SnapshotError
from nightly.snapshots.lists import parse_lists
from nightly.snapshots.parsing import parse_numbers
from nightly.snapshots.types import is_list

SAMPLE_ROWS = 100_000  # enough for shares to 0.2 %; a table with fewer rows is its own sample
SAMPLE_BYTES = 256 << 20  # for rows with images and the like
MAX_BAD_SHARE = 0.05  # with more unreadable rows, the file is not what its name says
MIN_ROWS = 50  # fewer rows have no fifth to judge a model by
FINITE = ("int64", "whole", "float")
SEED = 20160301
LARGEST = 1e38  # of the numbers that a network computes with, float32
ODD = 0.5  # largest share of odd values in a column that is meant to be a number
FEWEST_NUMBERS = 10  # different numbers that such a column has
NOT_UTF8 = "not UTF-8"


class Count(NamedTuple):
    value: str
    rows: int


@dataclass(frozen=True)
class Column:
    """A column of the data.

    :ivar type: its type in a snapshot: int64, float, string, binary, or list<…>
    :ivar rows: of the whole table
    :ivar missing: rows without a value
    :ivar low: the smallest number; None for text and columns without a number
    :ivar texts: the sample as text; lists and bytes are as they are
    """

    name: str
    type: str
    rows: int
    missing: int
    low: float | None
    high: float | None
    texts: pa.Array

    @property
    def missing_share(self) -> float:
        return self.missing / self.rows

    @property
    def is_number(self) -> bool:
        return self.type in kinds.NUMERIC

    @property
    def is_text(self) -> bool:
        return self.type == "string"

    @property
    def is_single(self) -> bool:
        """Whether a row has one number or text."""
        return self.is_number or self.is_text

    @cached_property
    def numbers(self) -> np.ndarray:
        """The sample's numbers, NaN where there is none: float64 [rows]."""
        values, _ = _numbers(self.texts, pa.float64())
        return values.to_numpy(zero_copy_only=False)

    @cached_property
    def counts(self) -> list[Count]:
        """The sample's distinct values, the most frequent first; whole numbers without a fraction."""
        if not self.is_single:
            return []
        values = self.texts if self.is_text else _numbers(self.texts, kinds.NUMERIC[self.type])[0]
        counted = pc.value_counts(values.drop_null())
        pairs = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
        return [Count(str(value), rows) for value, rows in sorted(pairs, key=lambda pair: (-pair[1], pair[0]))]

    @property
    def distinct(self) -> int:
        return len(self.counts)

    @property
    def present(self) -> int:
        """Rows of the sample with a value."""
        return len(self.texts) - self.texts.null_count

    @cached_property
    def odd_numbers(self) -> str:
        """The values that keep a column of numbers from being one; "" if it is none."""
        values, rows = pa.array([count.value for count in self.counts], pa.string()), [n for _, n in self.counts]
        _, wrong = _numbers(values, pa.float64())
        odd = [(value, n) for value, n, bad in zip(values.to_pylist(), rows, wrong.to_pylist(), strict=True) if bad]
        share = sum(n for _, n in odd) / max(self.present, 1)
        if not self.is_text or not odd or share > ODD or len(rows) - len(odd) < FEWEST_NUMBERS:
            return ""
        return ", ".join(repr(value) for value, _ in odd[:3])

    @cached_property
    def lengths(self) -> set[int]:
        """How many values the sample's lists have."""
        return set(pc.list_value_length(self.texts.drop_null()).to_pylist()) if is_list(self.type) else {1}


@dataclass(frozen=True)
class Table:
    """A data set.

    :ivar sample: rows of the sample, evenly drawn; all rows if there are few
    :ivar rejected: rows that could not be read
    :ivar headers: column name -> header
    :ivar uneven: a sentence on files that lack columns of others; "" if there are none
    """

    rows: int
    columns: dict[str, Column]
    sample: pa.Table
    rename: dict[str, str] = field(default_factory=dict)
    rejected: int = 0
    uneven: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def column(self, name: str, option: str) -> Column:
        """Return the column with this name or header. Raises NewModelError, which names the command's `option`."""
        column = self.columns.get(name) or self.columns.get(self.rename.get(name) or column_name(name))
        if column is None:
            raise NewModelError(f"{option} {name}: there is no such column{did_you_mean(name, list(self.columns))}")
        return column

    @property
    def is_sampled(self) -> bool:
        return self.sample.num_rows < self.rows

    @property
    def scale(self) -> float:
        """Rows of the table for a row of the sample."""
        return self.rows / self.sample.num_rows

    @property
    def sampled(self) -> str:
        """A clause for what the sample says; "" if it has all rows."""
        return f" in a sample of {self.sample.num_rows:,} rows" if self.is_sampled else ""


def read_table(bodies: Iterable[Body], title: str, keep: Collection[str] = ()) -> Table:
    """Read all rows once. Raises NewModelError.

    :param bodies: may raise SnapshotError, which becomes a NewModelError
    :param title: what is read, for messages
    :param keep: names that may be the label's
    """
    try:
        return _read(list(bodies), title, keep)
    except SnapshotError as error:
        raise NewModelError(str(error)) from error


def _read(bodies: list[Body], title: str, keep: Collection[str]) -> Table:
    if not bodies:
        raise NewModelError(f"{title} has no rows")
    rename: dict[str, str] = {}
    for body in bodies:
        refuse_headers(body)
        rename |= renamed([*body.headers, *body.partition], keep)
    bad, sample, measures = BadRows(), _Sample(), dict[str, _Measure]()
    declared, lists, headers, rows = dict[str, str](), dict[str, str](), dict[str, str](), 0
    for body in bodies:
        names = {header: rename.get(header) or column_name(header) for header in [*body.headers, *body.partition]}
        headers |= {name: header for header, name in names.items()}
        declared |= {names[header]: kind for header, kind in body.kinds.items()}
        for batch in _batches(body, names, bad, declared):
            if not rows and body.kind == "csv":
                lists = lists_of(batch)
            for name in batch.schema.names:
                measures.setdefault(name, _Measure()).add(batch.column(name), name in declared or name in lists)
            rows += batch.num_rows
            sample.add(batch)
    _refuse_unfit(bodies, title, bad, rows, list(measures))
    drawn = sample.table(list(measures))
    refuse_rows_as_headers(bodies, rename, drawn)
    columns = {}
    folders = {rename.get(key) or column_name(key) for body in bodies for key in body.partition}
    for name, measure in sorted(measures.items(), key=lambda item: item[0] not in folders):  # a label stands last
        texts = drawn.column(name).combine_chunks()
        texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        if name in lists:
            texts, _ = parse_lists(texts, lists[name])
        kind = declared.get(name) or lists.get(name) or measure.type(rows)
        missing = rows - measure.values  # the rows of files without the column, too
        columns[name] = Column(name, kind, rows, missing, measure.low, measure.high, texts)
    used = {header: name for header, name in rename.items() if name in columns}
    return Table(rows, columns, drawn, used, bad.rows, uneven(bodies), headers)


def _refuse_unfit(bodies: list[Body], title: str, bad: BadRows, rows: int, columns: list[str]) -> None:
    """Raise NewModelError if too many rows are unreadable, a body is cut, or rows or columns are too few."""
    if bad.rows > MAX_BAD_SHARE * (bad.rows + rows):
        raise NewModelError(
            f"{bad.rows:,} of {bad.rows + rows:,} rows of {title} cannot be read, e.g. {bad.shown[0]}: {_advice(bad)}"
        )
    if cut := next((body for body in bodies if body.truncated), None):
        raise NewModelError(f"{cut.name} is truncated: {cut.truncated}: have it delivered again")
    if rows < MIN_ROWS:
        many = "1 row" if rows == 1 else f"{rows:,} rows"
        raise NewModelError(f"{title} has {many}, and a model needs {MIN_ROWS} or more: provide more data")
    if len(columns) < 2:
        hint = "; columns are separated by commas" if re.search("[;\t|]", bodies[0].headers[0]) else ""
        raise NewModelError(f"{title} has one column, {columns[0]!r}: a model needs a label and a feature{hint}")


def _advice(bad: BadRows) -> str:
    """Return what to do about the unreadable rows."""
    if bad.main_reason.startswith(NOT_UTF8):
        return "save the file as UTF-8"
    return "is it what its name says, and are its columns separated by commas?"


def _batches(body: Body, names: dict[str, str], bad: BadRows, declared: dict[str, str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows as text, or as the lists or bytes that the body declares. A row that is not UTF-8 is bad."""

    def is_row(fields: list[str]) -> bool:
        return len(fields) == len(body.headers)

    for whole in readers.read(body, names, bad, is_row, declared):
        batch = whole
        for name in batch.schema.names if body.marked else []:
            if pa.types.is_string(batch.column(name).type):
                wrong = pc.match_substring_regex(batch.column(name), MARKED).fill_null(False)
                for row in pc.indices_nonzero(wrong).to_pylist():
                    number, value = batch.column(ROW)[row].as_py(), batch.column(name)[row].as_py()
                    bad.add(NOT_UTF8, name, file=body.name, row=number, value=value, text="")
                batch = batch.filter(pc.invert(wrong))
        yield batch.select([name for name in batch.schema.names if name != ROW])


@dataclass
class _Measure:
    """What is known of a column after some of its rows."""

    kind: kinds.Kind = "null"
    values: int = 0
    low: float | None = None
    high: float | None = None

    def add(self, values: pa.Array, as_is: bool) -> None:
        self.values += len(values) - values.null_count
        if as_is or not pa.types.is_string(values.type):
            return
        self.kind = kinds.kind_of_texts(values, self.kind)
        if self.kind == "null":
            return
        if self.kind in FINITE:
            numbers, wrong = _numbers(values, pa.float64())
            if not pc.any(wrong).as_py():
                low, high = pc.min_max(numbers).as_py().values()
                if low is not None:
                    self.low = low if self.low is None else min(low, self.low)
                    self.high = high if self.high is None else max(high, self.high)
                return
        self.kind, self.low, self.high = "string", None, None  # text, or nan, whose row a night would reject

    def type(self, rows: int) -> str:
        """Return the column's type in a snapshot, in a table of so many rows."""
        if self.kind == "whole":  # pandas writes whole numbers as 3.0 if some are missing
            return "int64" if self.values < rows else "float"
        return "string" if self.low is None else self.kind


def _numbers(texts: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.BooleanArray]:
    """Do as parse_numbers, but keep numbers that float32 does not hold: the reason to leave them out names them."""
    return parse_numbers(texts, kind, precision=pa.float64())


class _Sample:
    """Rows drawn evenly from batches: each row draws a number, and the rows with the smallest ones stay."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(SEED)
        self._below = 1.0
        self._kept: list[tuple[np.ndarray, pa.RecordBatch]] = []

    def add(self, batch: pa.RecordBatch) -> None:
        drawn = self._random.random(batch.num_rows)
        self._kept.append(self._thinned(drawn, batch))
        while self._rows > SAMPLE_ROWS or (self._bytes > SAMPLE_BYTES and self._rows > MIN_ROWS):
            self._below /= 2
            self._kept = [self._thinned(*each) for each in self._kept]

    def table(self, names: list[str]) -> pa.Table:
        """Return the rows with all columns, in the order in which they were read."""
        tables = [pa.Table.from_batches([batch]) for _, batch in self._kept]
        return pa.concat_tables(tables, promote_options="permissive").select(names)

    def _thinned(self, drawn: np.ndarray, batch: pa.RecordBatch) -> tuple[np.ndarray, pa.RecordBatch]:
        stays = drawn < self._below
        return (drawn, batch) if stays.all() else (drawn[stays], batch.filter(pa.array(stays)))

    @property
    def _rows(self) -> int:
        return sum(batch.num_rows for _, batch in self._kept)

    @property
    def _bytes(self) -> int:
        return sum(batch.nbytes for _, batch in self._kept)
