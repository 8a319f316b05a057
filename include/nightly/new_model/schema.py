"""The curated schema of a new model, as text with comments."""

import math
from collections.abc import Mapping

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.data.schemas import ENVIRONMENTS, MIN_DOMAIN_MASS, THRESHOLDS, with_thresholds
from nightly.new_model.labels import DOMAIN, Label
from nightly.new_model.roles import Roles
from nightly.new_model.tables import Column, Table
from nightly.snapshots.types import is_list

TYPES = {"int64": schema_pb2.INT, "float": schema_pb2.FLOAT, "string": schema_pb2.BYTES}
NAMES = {schema_pb2.INT: "whole numbers", schema_pb2.FLOAT: "numbers", schema_pb2.BYTES: "text"}
PRESENCE_MARGIN = 0.05  # of the share of rows that have a value
FIRST, LAST = ("name", "type", "not_in_environment"), ("drift_comparator", "skew_comparator")  # the order of fields
WIDTH = 116
MIN_VALUE_ROWS = 10  # mean rows of a value in a domain
HEADER = """\
# The curated schema of {name}: what a night's data must look like. Written by bin/new from {rows:,} rows{sampled}.
# Read it through, and correct what is not meant to be so. docs/checks.md explains the thresholds of drift and skew.
# {thresholds}
#
# The columns that config.toml ignores are not in here.

"""


def schema_text(
    name: str,
    table: Table,
    label: Label,
    roles: Roles,
    weight: str = "",
    thresholds: Mapping[str, float] = {},
    lowest_presence: Mapping[str, float] = {},
    measured: str = "",
) -> str:
    """Return the schema's text.

    :param thresholds: "drift.FEATURE" or "skew.FEATURE" -> a measured threshold; others get a wide default
    :param lowest_presence: feature -> its smallest share of rows with a value in a past window
    :param measured: how the thresholds were measured; "" if they were not
    """
    text_names = set(roles.groups.get("texts", []))
    schema, comments = schema_pb2.Schema(), {}
    for column in [table.columns[label.column], *([table.columns[weight]] if weight else [])]:
        feature = _target(column, label if column.name == label.column else None)
        comments[feature.name] = ("the label" if column.name == label.column else "the weight") + ": " + seen(column)
        schema.feature.append(feature)
    for column_name in roles.names:
        column = table.columns[column_name]
        feature = _feature(column, is_prose=column_name in text_names, lowest=lowest_presence.get(column_name))
        comments[column_name] = seen(column)
        schema.feature.append(feature)
    for kind, (of_text, of_numbers) in THRESHOLDS.items():
        every = {f.name: of_text if f.type == schema_pb2.BYTES else of_numbers for f in schema.feature}
        own = {f: thresholds[f"{kind}.{f}"] for f in every if f"{kind}.{f}" in thresholds}
        schema = with_thresholds(schema, kind, every | own)
    how = (
        f"They were {measured}." if measured else "They are wide defaults: there is too little history to measure them."
    )
    header = HEADER.format(name=name, rows=table.rows, sampled=_sampled(table), thresholds=how)
    features = "".join(_rendered(feature, comments[feature.name]) for feature in schema.feature)
    return header + features + "".join(f'default_environment: "{name}"\n' for name in ENVIRONMENTS)


def seen(column: Column) -> str:
    """Return what the data has in the column, in a line."""
    missing = f"{column.missing_share:.1%} missing" if column.missing else "none missing"
    if is_list(column.type):
        return f"{min(column.lengths)} to {max(column.lengths)} values a row, {missing}"
    if column.is_number:
        return f"{column.low:.6g} to {column.high:.6g}, {column.distinct:,} different, {missing}"
    return f"{column.distinct:,} different texts, {missing}"


def _target(column: Column, label: Label | None) -> schema_pb2.Feature:
    """Return the label's feature, or the weight's. Rows without a label are in no example, so it is always present."""
    feature = schema_pb2.Feature(name=column.name, type=TYPES[column.type], not_in_environment=["SERVING"])
    if label and label.kind != "number" and column.is_number:
        feature.type = schema_pb2.INT
        feature.int_domain.min, feature.int_domain.max = int(column.low), int(column.high)
    elif label and column.is_text and column.distinct <= DOMAIN:
        feature.string_domain.value.extend(sorted(value for value, _ in column.counts))
    elif column.is_number:
        _not_negative(feature, column)
    feature.presence.min_fraction, feature.presence.min_count = 1, 1
    feature.value_count.min = feature.value_count.max = 1
    return feature


def _feature(column: Column, *, is_prose: bool, lowest: float | None) -> schema_pb2.Feature:
    element = column.type.removeprefix("list<").removesuffix(">")
    feature = schema_pb2.Feature(name=column.name, type=TYPES[element])
    _presence(feature, column, lowest)
    if is_list(column.type):
        length = next(iter(column.lengths))
        if len(column.lengths) > 1 or element != "float":
            feature.value_count.min = 1
        elif column.missing:
            feature.value_count.min = feature.value_count.max = length
        else:
            feature.shape.dim.add(size=length)
            feature.presence.min_fraction = 1
        return feature
    feature.value_count.min = feature.value_count.max = 1
    if is_prose:
        feature.natural_language_domain.SetInParent()
    elif column.is_number:
        _not_negative(feature, column)
    elif column.distinct <= DOMAIN and column.present >= MIN_VALUE_ROWS * column.distinct:
        feature.string_domain.value.extend(sorted(value for value, _ in column.counts))
        feature.distribution_constraints.min_domain_mass = MIN_DOMAIN_MASS
    return feature


def _presence(feature: schema_pb2.Feature, column: Column, lowest: float | None) -> None:
    """Require values in as many rows as have one, less a margin for chance in the eval split and for change."""
    share = 1 - column.missing_share
    if not column.missing and lowest in (None, 1):
        feature.presence.min_fraction, feature.presence.min_count = 1, 1
        return
    chance = 3 * math.sqrt(share * (1 - share) / (column.rows / 10))
    least = min(share, share if lowest is None else lowest) - max(PRESENCE_MARGIN, (1 - share) / 2, chance)
    feature.presence.min_fraction = max(math.floor(100 * least) / 100, 0)
    if feature.presence.min_fraction:
        feature.presence.min_count = 1


def _not_negative(feature: schema_pb2.Feature, column: Column) -> None:
    """Allow no negative number where there is none, and no number beyond 1 where all are shares."""
    if column.low < 0:
        return
    domain = feature.int_domain if feature.type == schema_pb2.INT else feature.float_domain
    domain.min = 0
    if column.high <= 1:
        domain.max = 1


def _rendered(feature: schema_pb2.Feature, comment: str) -> str:
    """Return the feature's text, with a field a line."""
    lines = [f"# {NAMES[feature.type]}: {comment}"]
    fields = sorted(feature.ListFields(), key=lambda field: (field[0].name not in FIRST, field[0].name in LAST))
    for descriptor, value in fields:
        if descriptor.message_type is None:
            alone = schema_pb2.Feature()
            alone.MergeFrom(schema_pb2.Feature(**{descriptor.name: value}))
            lines += text_format.MessageToString(alone, as_utf8=True).splitlines()
            continue
        content = text_format.MessageToString(value, as_utf8=True, as_one_line=True)
        line = f"{descriptor.name} {{ {content} }}" if content else f"{descriptor.name} {{}}"
        if len(line) > WIDTH:
            content = text_format.MessageToString(value, as_utf8=True, indent=2)
            lines += [f"{descriptor.name} {{", *content.splitlines(), "}"]
        else:
            lines.append(line)
    return "feature {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _sampled(table: Table) -> str:
    return f", and a sample of {table.sample.num_rows:,} of them" if table.is_sampled else ""
