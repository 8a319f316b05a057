"""Find the label, what kind it is, and which value counts as positive."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nightly.new_model.errors import NewModelError
from nightly.new_model.tables import LARGEST, Column, Count, Table
from nightly.records.label_config import Kind

NAMES = ("label", "target", "y", "class", "outcome", "response", "is_fraud", "churn", "churned", "survived", "default")
PART = re.compile(r"(^|_)(label|target|outcome)(_|$)")
YES = ("1", "yes", "true", "y", "t", "positive", "pos")
COUNTS = re.compile(r"(^|_)(count|number|num|n|qty|quantity|amount|price|age|days|minutes|seconds|total|score)(_|$)")
FEW = 10  # whole numbers with so many values or fewer may be classes
DOMAIN = 50  # so many classes stand in the schema; more are learned
MIN_CLASS_ROWS = 20  # as config.toml's default
SKEWNESS = 10.0  # above it a few rows decide a mean of squares: an exponential distribution has 2


@dataclass(frozen=True)
class Label:
    """What the model predicts.

    :ivar positive: the values that count as 1 of a binary label
    :ivar why: the reason for the kind
    :ivar is_certain: whether no other kind and no other positive value would make sense
    """

    column: str
    kind: Kind
    why: str
    positive: tuple[str, ...] = ()
    transform: Literal["none", "log1p"] = "none"
    classes: Literal["schema", "learned"] = "schema"
    is_certain: bool = True

    def is_positive(self, value: str) -> bool:
        """Return whether a value, as `Column.counts` has it, counts as 1."""
        return bool({value, value.removesuffix(".0")} & set(self.positive))


def proposed_column(table: Table, others: Collection[str]) -> tuple[str, str]:
    """Return the likeliest label, and why.

    :param others: columns that are known to be something else, such as ids and times
    """
    usable = [column.name for column in table.columns.values() if column.is_single and column.distinct > 1]
    if not usable:
        raise NewModelError("no column has two different numbers or texts, so there is nothing to predict")
    by_name = [name for known in NAMES for name in usable if name == known]
    by_part = [name for name in usable if PART.search(name)]
    if by_name or by_part:
        return (by_name or by_part)[0], "by its name"
    likely = [name for name in usable if name not in others]
    return (likely or usable)[-1], "the last column" if not others else "the last column that is no id and no time"


def label_column(table: Table, name: str) -> Column:
    """Return the column, if it can be a label. Raises NewModelError."""
    column = table.column(name, "--label")
    if not column.is_single:
        raise NewModelError(f"--label {name}: it is {column.type}, and a label is one number or text a row")
    if not column.present:
        raise NewModelError(f"--label {name}: no row has a value")
    if column.distinct == 1:
        value = column.counts[0].value
        raise NewModelError(f"--label {name}: every row has {value!r}, so there is nothing to learn")
    return column


def label_of(column: Column, kind: Kind | None = None) -> Label:
    """Return the label with its kind. Raises NewModelError if it cannot be that.

    :param kind: as a person says it; None to propose one
    """
    name, distinct = column.name, column.distinct
    chosen = kind or _kind(column)
    if chosen == "number":
        if not column.is_number:
            example = next(value for value, _ in column.counts)
            if column.odd_numbers:
                raise NewModelError(_odd(column))
            raise NewModelError(f"--kind number: {name} has text such as {example!r}: choose binary or classes")
        if max(abs(column.low), abs(column.high)) > LARGEST:
            raise NewModelError(f"{name} has numbers beyond {LARGEST:.0e}, which float32 does not hold: scale it")
        return _number(column, is_certain=kind is not None or column.type == "float" or distinct > FEW)
    if column.type == "float" and not _is_whole(column):
        raise NewModelError(f"--kind {chosen}: {name} has fractions such as {column.counts[0].value}: choose number")
    if chosen == "binary":
        return _binary(column, kind is not None)
    return _classes(column, is_certain=kind is not None or column.is_text)


def with_positive(column: Column, positive: str) -> Label:
    """Return the binary label with this value, in all its spellings, as the positive one."""
    return _with_positive(column, spellings(column)[_folded(positive)], "as you said", is_certain=True)


def spellings(column: Column) -> dict[str, list[Count]]:
    """Return the values, those together that differ only in case and spaces, as yes and Yes do."""
    together: dict[str, list[Count]] = {}
    for count in column.counts:
        together.setdefault(_folded(count.value), []).append(count)
    return together


def _folded(value: str) -> str:
    return value.strip().casefold()


def _odd(column: Column) -> str:
    return f"{column.name} has numbers, but also {column.odd_numbers}: leave these blank at the source"


def refuse_rare_classes(column: Column, label: Label, share: float) -> None:
    """Raise NewModelError if a night would have no two classes that are frequent enough to be learned.

    :param share: rows that a night trains on, for a row of the sample
    """
    frequent = [value for value, rows in column.counts if rows * share >= MIN_CLASS_ROWS]
    if label.classes == "learned" and len(frequent) < 2:
        raise NewModelError(
            f"{column.name} has {column.distinct:,} different values, and no two of them have {MIN_CLASS_ROWS} rows of "
            "those that a night trains on: choose another column with --label, or bring more data"
        )


def _kind(column: Column) -> Kind:
    if column.distinct == 2 or (column.is_text and len(spellings(column)) == 2):
        return "binary"
    if column.is_text:
        return "classes"
    few = column.distinct <= FEW and _is_whole(column) and column.low in (0, 1) and not COUNTS.search(column.name)
    return "classes" if few and column.high == column.low + column.distinct - 1 else "number"


def _is_whole(column: Column) -> bool:
    numbers = column.numbers[~np.isnan(column.numbers)]
    return bool((numbers == np.floor(numbers)).all())


def _binary(column: Column, is_stated: bool) -> Label:
    together = spellings(column)
    # In a column of 1 and 2 both are codes: there, 1 does not mean yes.
    known = [value for value in together if value.removesuffix(".0") in YES and not (column.low or 0) >= 1]
    # A blank is not a value.
    rarest = min(filter(None, together), key=lambda value: sum(rows for _, rows in together[value]))
    positive = together[known[0] if len(known) == 1 else rarest]
    which = "which means yes" if len(known) == 1 else "the rarer one"
    return _with_positive(column, positive, which, is_certain=len(known) == 1 or is_stated)


def _with_positive(column: Column, positive: list[Count], which: str, is_certain: bool) -> Label:
    counts = column.counts
    values = " and ".join(repr(value) for value, _ in counts[:2]) + (" and others" if len(counts) > 2 else "")
    names = tuple(value.removesuffix(".0") if column.is_number else value for value, _ in positive)
    share = sum(rows for _, rows in positive) / column.present
    shown = " or ".join(map(repr, names))
    why = f"it has {values}; {shown} counts as 1, {which}: {share:.1%} of the rows"
    return Label(column.name, "binary", why, positive=names, is_certain=is_certain)


def _classes(column: Column, is_certain: bool) -> Label:
    frequent = [value for value, rows in column.counts if rows >= MIN_CLASS_ROWS]
    covered = sum(rows for _, rows in column.counts if rows >= MIN_CLASS_ROWS) / column.present
    if column.distinct > DOMAIN and (len(frequent) < 2 or covered < 0.5):
        if column.odd_numbers:
            raise NewModelError(_odd(column))
        raise NewModelError(
            f"{column.name} has {column.distinct:,} different values in {column.present:,} rows, too many to be "
            "classes: choose another column with --label"
            + (", or predict its number with --kind number" if column.is_number else "")
        )
    if column.distinct <= DOMAIN:
        return Label(column.name, "classes", f"it has {column.distinct} values", is_certain=is_certain)
    return Label(
        column.name,
        "classes",
        f"it has {column.distinct:,} values; those with {MIN_CLASS_ROWS} rows or more are learned, others are (other)",
        classes="learned",
        is_certain=is_certain,
    )


def _number(column: Column, is_certain: bool) -> Label:
    numbers = column.numbers[~np.isnan(column.numbers)]
    spread = float(numbers.std()) or 1.0
    skewness = float((((numbers - numbers.mean()) / spread) ** 3).mean())
    why = f"it is a number, {numbers.min():.6g} to {numbers.max():.6g}, {np.median(numbers):.6g} in the middle"
    if numbers.min() >= 0 and skewness > SKEWNESS:
        why += f"; it is trained as log(1 + label), since its tail is long (skewness {skewness:.0f})"
        return Label(column.name, "number", why, transform="log1p", is_certain=is_certain)
    return Label(column.name, "number", why, is_certain=is_certain)
