"""The columns of a snapshot: their names, from the headers of its bodies, and their types, from the curated schema."""

import logging
from dataclasses import dataclass
from pathlib import Path

from nightly.io.hints import did_you_mean
from nightly.records.data_config import Data, column_name
from nightly.records.snapshot import UnnamedColumn
from nightly.schemas.curated import SchemaError, read_schema
from nightly.schemas.features import column_type, is_image, length_of
from nightly.snapshots.body import ROW, Body
from nightly.snapshots.errors import ColumnError, SnapshotError
from nightly.snapshots.types import is_text

log = logging.getLogger("nightly")


@dataclass(frozen=True)
class SnapshotSchema:
    """What the curated schema says about a snapshot's columns."""

    types: dict[str, str]  # column -> key of TYPES
    lengths: dict[str, int]  # column -> how many values each of its lists has
    images: set[str]


def column_names(body: Body, rename: dict[str, str]) -> dict[str, str]:
    """Return header -> column name: from `rename`, or the header in snake_case.

    Raises ColumnError if two headers get the same name, or a header gets none.
    """
    names: dict[str, str] = {}
    for header in [*body.headers, *body.partition]:
        name = rename.get(body.unnamed.get(header, header)) or rename.get(header) or column_name(header)
        other = next((known for known, known_name in names.items() if known_name == name), None)
        if other is not None or not name or name == ROW:
            problem = f"has the same column name as {other!r}, {name!r}" if other else f"gives no valid name: {name!r}"
            raise ColumnError(f"{body.name}: the header {header!r} {problem}; name it in data.rename of config.toml.")
        names[header] = name
    return names


def column_types(streams: list[tuple[Body, dict[str, str]]], data: Data, schema: SnapshotSchema) -> dict[str, str]:
    """Return column -> type of the snapshot, whose columns are those of all bodies.

    Raises ColumnError.

    :param streams: each body with its header -> column name
    """
    names = [renamed for _, renamed in streams]
    present = list(dict.fromkeys(name for renamed in names for name in renamed.values()))
    times = [column for column in (data.time_column, data.known_at) if column]
    needed = [("time_column", data.time_column), ("known_at", data.known_at)]
    needed += [("id_columns", column) for column in data.id_columns]
    for key, column in needed:
        if column and column not in present:
            raise ColumnError(
                f"the source has no column {column!r}, which data.{key} of config.toml names"
                + did_you_mean(column, present)
            )
    headers = {header for renamed in names for header in renamed} | {""}
    for header in sorted(set(data.rename) - headers):
        log.warning("data.rename: no body has the header %r", header)
    for renamed in names:
        absent = set(present) - set(renamed.values())
        if absent:
            log.warning("a body lacks columns that others have; its rows have no value there: %s", sorted(absent))
            break
    declared = {renamed[header]: kind for body, renamed in streams for header, kind in body.kinds.items()}
    columns = {name: schema.types.get(name) or declared.get(name, "string") for name in present}
    unknown = sorted(set(present) - schema.types.keys() - {*times})
    log.info("not in the schema, kept as the source has them: %s", unknown or "none")
    if not is_text(kind := columns.get(data.label.column, "string")):
        raise ColumnError(f"data.label.column: {data.label.column} is {kind}, and a label is one value a row")
    return columns | dict.fromkeys(times, "timestamp")


def read_snapshot_schema(schema: Path) -> SnapshotSchema:
    """Read the curated schema. Raises SnapshotError."""
    try:
        features = read_schema(schema).feature
    except FileNotFoundError:
        hint = f"`bin/data schema infer DATA --model {schema.parent.name} --out {schema}` writes a first one."
        raise SnapshotError(f"the model has no curated schema: {schema} does not exist; {hint}") from None
    except SchemaError as error:
        raise SnapshotError(str(error)) from None
    return SnapshotSchema(
        types={feature.name: column_type(feature) for feature in features},
        lengths={feature.name: length for feature in features if (length := length_of(feature))},
        images={feature.name for feature in features if is_image(feature)},
    )


def unnamed_columns(streams: list[tuple[Body, dict[str, str]]]) -> list[UnnamedColumn]:
    unnamed = [
        UnnamedColumn(file=body.name, position=body.headers.index(header) + 1, column=names[header])
        for body, names in streams
        for header in body.unnamed
    ]
    for column in unnamed:
        log.warning("%s: column %s has no name in the header; named %r", column.file, column.position, column.column)
    return unnamed
