"""Sentences on what a person should look at before the first night."""

import datetime as dt
from collections.abc import Iterator

import numpy as np

from nightly.new_model.labels import Label, spellings
from nightly.new_model.tables import Column, Table
from nightly.new_model.times import NAMED, YEAR, Time, mixed_formats, why_not

FEW_LABELS = 50  # rows of the rarer value: with fewer, the eval split says little about a model
LOOKED_AT = 5  # the most frequent values of a column


def doubts_of(table: Table, label: Label, times: list[Time], time: Time | None, now: dt.datetime) -> Iterator[str]:
    """Yield a sentence for each doubt.

    :param times: the columns of times
    :param time: the one that says when a row happened
    """
    if table.uneven:
        yield table.uneven
    yield from _of_label(table.columns[label.column], label)
    if time:
        yield from _of_time(time, now)
    else:
        yield from (f"{t.column} has times, but {why_not(t)}" for t in times if not t.is_usable)
        known = {t.column for t in times}
        yield from (
            f"{column.name} may have times, in no format that is known here: {column.counts[0].value!r}"
            for column in table.columns.values()
            if column.name not in known and _may_be_time(column)
        )


def _of_label(column: Column, label: Label) -> Iterator[str]:
    if label.kind == "binary":
        positive = sum(rows for value, rows in column.counts if label.is_positive(value))
        rare = min(positive, column.present - positive)
        if rare < FEW_LABELS:
            yield f"{column.name}: {rare} of {column.present:,} rows have its rarer value, too few to judge a model by"
    if label.kind == "classes":
        for values in spellings(column).values():
            if len(values) > 1:
                first, second = values[0].value, values[1].value
                yield f"{column.name}: {first!r} and {second!r} are two classes, and differ only in case or spaces"


def _of_time(time: Time, now: dt.datetime) -> Iterator[str]:
    later = float(np.mean(time.times > now.timestamp() * 1e6))
    if later:
        rows = "all rows are" if later == 1 else f"{later:.1%} of the rows are"
        yield f"{time.column}: {rows} later than now, and no night before that reads them"


def _may_be_time(column: Column) -> bool:
    if not (column.is_text and column.distinct > 1 and NAMED.search(column.name)) or mixed_formats(column):
        return False
    return all(YEAR.search(value) for value, _ in column.counts[:LOOKED_AT])
