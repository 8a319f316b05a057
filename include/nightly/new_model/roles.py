"""Decide what each column is for: id, feature by its encoding, or left out, each with a reason."""

import re
from dataclasses import dataclass, field

import pyarrow.compute as pc

from nightly.new_model.tables import LARGEST, Column, Table
from nightly.new_model.times import Time, mixed_formats, time_of
from nightly.new_model.windows import is_series
from nightly.schemas.features import image_format
from nightly.snapshots.parsing import NUMBER
from nightly.snapshots.types import is_list
from nightly.training.tabular.features import Features

ID = re.compile(r"(^|_)(id|ids|uuid|guid|key|index|row|rownum|no|nr|number|code)$")
CODE = re.compile(
    r"(^|_)(id|code|zip|zipcode|postcode|area|tract|region|type|class|category|kind|group|store|shop)(_|$)"
)
SIGNED = re.compile(r"(?=.*[$€£¥%,])\s*[-+]?[$€£¥]?\s*[-+]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?\s*[$€£¥%]?\s*")
MANY_ROWS = 10  # rows that a value of a category needs on average: with fewer, most are rare or new
UNIQUE = 0.98  # of the values: a column of names, not of categories
LONG_WORDS = 3.0  # mean words from which text that hardly repeats is read as words
FEW_VALUES = 20  # of all rows: nothing can be learnt from fewer
MOST_CODES = 1000  # values of whole numbers that are read as codes


@dataclass
class Roles:
    """What the columns are for.

    :ivar ids: the columns that identify a row; [] for the whole row
    :ivar ignored: column -> why it is left out of the examples
    :ivar comments: feature -> what a reader of features.py should know
    """

    ids: list[str] = field(default_factory=list)
    id_reason: str = ""
    ignored: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)

    @property
    def features(self) -> Features:
        return Features(**self.groups)

    @property
    def names(self) -> list[str]:
        return [name for names in self.groups.values() for name in names]


def is_id(column: Column) -> bool:
    """Return whether the column is an id, by its name or as a counter of the rows."""
    return bool(ID.search(column.name)) or (column.distinct >= UNIQUE * column.rows and _counts_up(column))


def ids_of(table: Table, label: str, time: Time | None) -> tuple[list[str], str]:
    """Return the columns that identify a row, and why: one alone, or one with the time; ([], why) for the whole row."""
    if time and is_series(time):
        return [time.column], "a series: each row has a time of its own"
    named = time.column if time else ""
    likely = [c for c in table.columns.values() if ID.search(c.name) and c.name not in (label, named) and c.is_single]
    for column in likely:
        if not column.missing and column.type != "float" and column.distinct == column.present:
            return [column.name], f"each row has another {column.name}{table.sampled}"
    for column in likely if named else []:
        together = table.sample.select([column.name, named]).group_by([column.name, named]).aggregate([])
        if not column.missing and column.distinct > 1 and together.num_rows == table.sample.num_rows:
            return [column.name, named], f"each row has another pair of {column.name} and {named}{table.sampled}"
    return [], "no column has another value in each row; the whole row is its id"


def roles_of(table: Table, *, label: str, time: str, weight: str, ids: list[str], id_reason: str) -> Roles:
    """Return the roles of all columns but the label and the weight."""
    roles = Roles(ids, id_reason)
    for column in table.columns.values():
        if column.name in (label, weight):
            continue
        if column.name == time:
            roles.ignored[column.name] = "the time only selects rows"
        elif column.name in ids:
            roles.ignored[column.name] = "identifies a row, and says nothing of the next one"
        elif reason := _no_feature(column):
            roles.ignored[column.name] = reason
        else:
            group, comment = _encoding(column)
            roles.groups.setdefault(group, []).append(column.name)
            roles.comments[column.name] = comment
    return roles


def _no_feature(column: Column) -> str:
    """Return why the column is no feature, or ""."""
    if not column.present:
        return "it has no value"
    if column.rows - column.missing < FEW_VALUES:
        return f"it has a value in {column.rows - column.missing} of {column.rows:,} rows"
    if column.type == "binary":
        content = column.texts.drop_null()[0].as_py()
        what = "images" if image_format(content) else "bytes"
        return f"{what}: the default network reads none; see docs/how-to/features.md"
    if is_list(column.type):
        return _no_list(column)
    if column.distinct == 1 and not column.missing:
        return f"it is always {column.counts[0].value!r}"
    if time := time_of(column):
        return f"a time ({time.format}): derive a feature from it in preprocessing.py, such as the hour"
    if formats := mixed_formats(column):
        return f"times of several formats ({' and '.join(formats)}): write one format at the source"
    return _no_number(column) if column.is_number else _no_text(column)


def _no_number(column: Column) -> str:
    if max(abs(column.low), abs(column.high)) > LARGEST:
        return f"it has numbers beyond {LARGEST:.0e}, which float32 does not hold"
    unique = column.type == "int64" and column.distinct / column.present >= UNIQUE
    return "a number of its own for each row" if unique and (ID.search(column.name) or _counts_up(column)) else ""


def _no_text(column: Column) -> str:
    if column.odd_numbers:
        return f"numbers, but also {column.odd_numbers}: leave these blank at the source"
    if column.distinct > MANY_ROWS and _has_signs(column):
        return f"numbers with signs, such as {column.counts[0].value!r}: write them plainly at the source"
    many = column.distinct > MANY_ROWS and column.distinct / column.present > 1 / MANY_ROWS
    if many and not _is_prose(column):
        return f"{column.distinct:,} different texts in {column.present:,} rows, so most are new every night"
    return ""


def _no_list(column: Column) -> str:
    if column.type == "list<binary>":
        return "lists of bytes: see docs/how-to/features.md"
    if column.type == "list<float>" and len(column.lengths) != 1:
        return "lists of numbers of different lengths: see docs/how-to/features.md"
    return ""


def _encoding(column: Column) -> tuple[str, str]:
    """Return the group of Features, and a comment."""
    missing = f"; {column.missing_share:.1%} missing" if column.missing else ""
    if column.type == "list<float>":
        return "vectors", f"{next(iter(column.lengths))} numbers a row{missing}"
    if is_list(column.type):
        return "category_lists", f"{min(column.lengths)} to {max(column.lengths)} values a row{missing}"
    if column.is_text:
        if _is_prose(column):
            return "texts", f"free text{missing}"
        return "categories", f"{column.distinct:,} values{missing}"
    codes = column.type == "int64" and CODE.search(column.name) and column.distinct <= MOST_CODES
    if codes and column.present >= MANY_ROWS * column.distinct:
        return "categories", f"{column.distinct:,} whole numbers, taken for codes by the name{missing}"
    return "numbers", f"{column.low:.6g} to {column.high:.6g}{missing}"


def _is_prose(column: Column) -> bool:
    """Return whether the values hardly repeat and have several words."""
    if column.distinct * MANY_ROWS < column.present or column.distinct <= MANY_ROWS:
        return False
    texts = column.texts.drop_null()
    words = pc.add(pc.count_substring_regex(texts, r"\s+"), 1)
    return (pc.mean(words).as_py() or 0) >= LONG_WORDS


def _has_signs(column: Column) -> bool:
    """Return whether the values are numbers with signs of money or percent, or with commas between thousands."""
    plain = [value for value, _ in column.counts if not SIGNED.fullmatch(value)]
    return len(plain) < column.distinct and all(NUMBER.fullmatch(value) for value in plain)


def _counts_up(column: Column) -> bool:
    """Return whether the values are those of a counter: as many as there are numbers between the ends."""
    return column.low is not None and column.high - column.low + 1 <= 1.02 * column.rows and column.low in (0, 1)
