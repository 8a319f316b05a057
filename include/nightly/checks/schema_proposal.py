"""Proposes how the schema would have to change for a held night's data to fit. Nothing is accepted here.

Proposed are a new column, new values of a domain, another type, a wider range, and a lower share of rows that have a
feature. A column that is gone is not: the model reads it, so that is a change of the model. Nor is anything about the
label, which config.toml defines.
"""

import difflib
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from nightly.checks import judge
from nightly.checks.evidence import Evidence
from nightly.checks.presence import common
from nightly.checks.schema import counts, domain_of
from nightly.records.night import Contribution, utc_now
from nightly.records.schema import SchemaChange, SchemaProposal
from nightly.schemas.curated import SchemaError, parse_schema
from nightly.schemas.store import sha256
from nightly.schemas.text import Field, SchemaEditError, SchemaText, comments, quoted
from nightly.snapshots.parsing import parse_numbers

log = logging.getLogger("nightly")

Anomaly = anomalies_pb2.AnomalyInfo
Statistics = dict[str, statistics_pb2.DatasetFeatureStatisticsList]  # by split
VALUES = 5  # that a change shows as evidence
CATEGORIES = 20  # a new column of text with at most as many values gets a domain
ROUNDS = 3  # a column of another type may be out of its range too
# What a column can have become, by its type in the statistics. What the schema calls text stays text in a snapshot.
DELIVERED = {statistics_pb2.FeatureNameStatistics.FLOAT: "FLOAT", statistics_pb2.FeatureNameStatistics.STRING: "BYTES"}
UNPRINTABLE = ("__BYTES_VALUE__", "__LARGE_BYTES__")  # what TFDV's statistics have in place of such a value


def propose(evidence: Evidence, statistics: Statistics, text: str) -> SchemaProposal | None:
    """What would have to change in `text`, the schema that the night was held by; None where that is nothing.

    :param evidence: what the data gate has judged
    :param statistics: of each split, to see whether the data would fit
    """
    edited, changes, schema, anomalies = text, [], evidence.schema, evidence.anomalies
    try:
        for _ in range(ROUNDS):
            editing = Editing(replace(evidence, schema=schema, anomalies=anomalies), SchemaText(edited))
            found = list(editing.changes())
            if not found:
                break
            changes += found
            edited = editing.text.edited()
            schema = _checked(text, edited)
            anomalies = _validated(statistics, _as_delivered(schema, changes))
    except (SchemaEditError, SchemaError) as error:
        log.warning("no schema change is proposed: %s. Edit schema.pbtxt by hand.", error)
        return None
    if not changes:
        return None
    after = replace(evidence, schema=_as_delivered(schema, changes), anomalies=anomalies)
    night = evidence.night
    return SchemaProposal(
        model=night.model,
        run_id=night.run_id,
        as_of=night.as_of,
        base_version=night.schema_version,
        base_sha256=sha256(text),
        changes=changes,
        diff=diff(text, edited, f"schema.pbtxt, version {night.schema_version}", "schema.pbtxt, proposed"),
        text=edited,
        left=[reason.message for reason in judge(after) if reason.held],
        proposed_at=utc_now(),
    )


def diff(old: str, new: str, from_name: str, to_name: str) -> str:
    """A unified diff."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), from_name, to_name, lineterm="")
    return "\n".join(lines)


@dataclass
class Editing:
    """One pass over the anomalies: each that a change of the schema can answer is edited into the text."""

    evidence: Evidence
    text: SchemaText
    domains: dict[str, list[str]] = field(default_factory=dict)  # a domain that features share is widened once

    def changes(self) -> Iterator[SchemaChange]:
        for feature, types in sorted(self._held().items()):
            for make in dict.fromkeys(MAKERS[kind] for kind in sorted(types) if kind in MAKERS):
                if change := make(self, feature):
                    yield change

    def _held(self) -> dict[str, set[int]]:
        """feature -> the types of its anomalies that hold, in any split; never the label."""
        held: dict[str, set[int]] = {}
        for anomalies in self.evidence.anomalies.values():
            for info in anomalies.anomaly_info.values():
                name = ".".join(info.path.step)
                if info.severity == Anomaly.ERROR and name != self.evidence.config.data.label.column:
                    held.setdefault(name, set()).update(reason.type for reason in info.reason)
        return held

    def new_column(self, feature: str) -> SchemaChange:
        column = self._column(feature)
        kind, domain = _type_of(column), []
        if kind == "BYTES":
            values = sorted(set(column.drop_null().to_pylist())) if len(column.unique()) <= CATEGORIES else []
            if values:
                listed = " ".join(f"value: {quoted(value)}" for value in values)
                domain = [f"string_domain {{ name: {quoted(feature)} {listed} }}"]
        lines = [f"name: {quoted(feature)}", f"type: {kind}", "presence { min_count: 1 }"]
        self.text.add_feature([*lines, "value_count { min: 1 max: 1 }", *domain])
        words = f"{kind}, one of {len(values)} values" if domain else kind
        return SchemaChange(
            feature=feature,
            kind="new column",
            old="",
            new=words,
            risk="No model reads it until features.py and preprocessing.py do, and its drift is not measured until a "
            "person gives it a comparator; where it is not wanted, name it in data.ignore of config.toml instead.",
            values=_most(column),
        )

    def new_values(self, feature: str) -> SchemaChange | None:
        known = domain_of(self.evidence, feature) or set()
        column = self._column(feature)
        seen = {value for side in self._sides(feature) for value in counts(side)} - known - {*UNPRINTABLE}
        new = [one for one in _most(column, None) if one.value in seen]
        if not new:
            return None
        place = self.text.domain(feature, "string_domain")
        written = self.domains.setdefault(self.text.read(place.one("name")) if place.one("name") else feature, [])
        missing = [one.value for one in new if one.value not in written]
        self.text.append(place, "value", [f"value: {quoted(value)}" for value in missing])
        written += missing
        alike = {one.value: near for one in new if (near := _alike(one.value, known))}
        spelled = "; ".join(f"{value!r} looks like {old!r}" for value, old in alike.items())
        return SchemaChange(
            feature=feature,
            kind="new values",
            old=f"{len(known)} values",
            new=", ".join(repr(one.value) for one in new),
            risk="They are out of the vocabulary of the model in production, which was never trained on them"
            + (f"; a new spelling would split what was one: {spelled}." if spelled else "."),
            values=new[:VALUES],
            rows=self.evidence.rows.having(feature, [one.value for one in new]),
        )

    def type(self, feature: str) -> SchemaChange | None:
        """Whole numbers that have fractions now, or numbers that are text now; the snapshot has it as it came."""
        place = self.text.feature(feature)
        side = next(self._sides(feature), None)
        old = self.text.read(place.one("type")) if place.one("type") else ""
        kind = DELIVERED.get(side.type) if side is not None else None
        if not old or kind in (None, old):
            return None
        self.text.replace(place.one("type"), kind)
        domain = place.one("int_domain")
        if kind == "FLOAT":
            if domain:
                self.text.rename(domain, "float_domain")
            risk = "preprocessing.py and the clients know whole numbers so far: both must take fractions."
        else:
            for name in ("int_domain", "float_domain", "drift_comparator", "skew_comparator"):
                for one in place.all(name):
                    self.text.remove(one)
            risk = (
                "preprocessing.py reads a number and fails on text until it is changed; the range and comparators of "
                "numbers go, so that its drift is not measured until a person gives it an infinity_norm."
            )
        column = self._column(feature)
        return SchemaChange(
            feature=feature,
            kind="type",
            old=old,
            new=kind,
            risk=risk,
            values=_most(column),
            rows=self.evidence.rows.examples(feature, _odd(column.type)),
        )

    def range(self, feature: str) -> SchemaChange | None:
        sides = [side.num_stats for side in self._sides(feature) if side.HasField("num_stats")]
        known = next(one for one in self.evidence.schema.feature if one.name == feature)
        kind = "int_domain" if known.type == schema_pb2.INT else "float_domain"
        place = self.text.domain(feature, kind)
        low, high = (self._bound(place, name) for name in ("min", "max"))
        new_low = min([low, *(_outward(side.min, kind, -1) for side in sides if side.min < low)])
        new_high = max([high, *(_outward(side.max, kind, 1) for side in sides if side.max > high)])
        if (low, high) == (new_low, new_high):
            return None
        for name, old, new in (("min", low, new_low), ("max", high, new_high)):
            if old != new:
                self.text.replace(place.one(name), f"{new:.15g}")
        column = self._column(feature)
        beyond = column.filter(pc.or_(pc.less(column, low), pc.greater(column, high)))
        return SchemaChange(
            feature=feature,
            kind="range",
            old=_interval(low, high),
            new=_interval(new_low, new_high),
            risk="The model in production has never seen such numbers; another unit or a typing error looks the same.",
            values=_most(beyond, VALUES, of=len(column) - column.null_count),
            rows=self.evidence.rows.examples(feature, lambda a: pc.or_(pc.less(a, low), pc.greater(a, high))),
        )

    def presence(self, feature: str) -> SchemaChange | None:
        """Lower, and never to nothing: a column without any value is one that is gone."""
        examples = (self.evidence.train, self.evidence.eval)
        shares = [common(m.features[feature]).num_non_missing / m.examples for m in examples if feature in m.features]
        place = self.text.feature(feature).one("presence")
        known = place.one("min_fraction") if place else None
        share = math.floor(min(shares, default=0) * 100) / 100
        if known is None or not share or share >= float(self.text.read(known)):
            return None
        old = self.text.read(known)
        self.text.replace(known, f"{share:g}")
        column = self._column(feature)
        missing = column.null_count
        return SchemaChange(
            feature=feature,
            kind="presence",
            old=f"in at least {float(old):.0%} of the rows",
            new=f"in at least {share:.0%}",
            risk="The model fills what is missing with one default: the more rows have it, the less the feature tells.",
            values=[Contribution(value="missing", rows=missing, share=missing / max(len(column), 1))],
            rows=self.evidence.rows.missing(feature),
        )

    def _sides(self, feature: str) -> Iterator[statistics_pb2.FeatureNameStatistics]:
        for side in (self.evidence.train, self.evidence.eval):
            if feature in side.features:
                yield side.features[feature]

    def _column(self, feature: str) -> pa.ChunkedArray:
        """The snapshot's column: TFDV keeps no more than the most frequent values."""
        files = sorted(self.evidence.rows.folder.glob("rows-*.parquet"))
        return pa.chunked_array([c for path in files for c in pq.read_table(path, columns=[feature]).column(0).chunks])

    def _bound(self, place: Field, name: str) -> float:
        known = place.one(name)
        return float(self.text.read(known)) if known else {"min": -math.inf, "max": math.inf}[name]


MAKERS: dict[int, Callable[[Editing, str], SchemaChange | None]] = {
    Anomaly.SCHEMA_NEW_COLUMN: Editing.new_column,
    Anomaly.ENUM_TYPE_UNEXPECTED_STRING_VALUES: Editing.new_values,
    Anomaly.UNEXPECTED_DATA_TYPE: Editing.type,
    Anomaly.INT_TYPE_SMALL_INT: Editing.range,
    Anomaly.INT_TYPE_BIG_INT: Editing.range,
    Anomaly.FLOAT_TYPE_SMALL_FLOAT: Editing.range,
    Anomaly.FLOAT_TYPE_BIG_FLOAT: Editing.range,
    Anomaly.FEATURE_TYPE_LOW_FRACTION_PRESENT: Editing.presence,
}


def _checked(base: str, edited: str) -> schema_pb2.Schema:
    """The edited schema, as protobuf reads it. Raises SchemaEditError where an edit has lost anything."""
    schema = parse_schema(edited, where="the proposed schema")
    if comments(base) != comments(edited):
        raise SchemaEditError("the edit would lose a comment")
    before = text_format.Parse(base, schema_pb2.Schema())
    if [f.name for f in before.feature] != [f.name for f in schema.feature][: len(before.feature)]:
        raise SchemaEditError("the edit would lose a feature")
    return schema


def _as_delivered(schema: schema_pb2.Schema, changes: list[SchemaChange]) -> schema_pb2.Schema:
    """The schema as this night's examples can be judged by it: a column that was not in it came as text, and becomes
    a number only when the snapshot is made again with the new schema.
    """
    new = {change.feature for change in changes if change.kind == "new column"}
    judged = schema_pb2.Schema()
    judged.CopyFrom(schema)
    for one in judged.feature:
        if one.name in new:
            one.type = schema_pb2.BYTES
    return judged


def _validated(statistics: Statistics, schema: schema_pb2.Schema) -> dict[str, anomalies_pb2.Anomalies]:
    return {split: tfdv.validate_statistics(found, schema) for split, found in statistics.items()}


def _type_of(column: pa.ChunkedArray) -> str:
    """The narrowest type that holds every value of a column of text."""
    values = column.combine_chunks()
    if column.null_count == len(column):
        return "BYTES"
    for kind, name in ((pa.int64(), "INT"), (pa.float64(), "FLOAT")):
        if not pc.any(parse_numbers(values, kind)[1]).as_py():
            return name
    return "BYTES"


def _most(column: pa.ChunkedArray, limit: int | None = VALUES, of: int | None = None) -> list[Contribution]:
    """The most frequent values with their rows, of all `of` that have a value."""
    total = max(of if of is not None else len(column) - column.null_count, 1)
    found = [(one["values"], one["counts"]) for one in pc.value_counts(column.drop_null()).to_pylist()]
    found.sort(key=lambda pair: (-pair[1], str(pair[0])))
    return [Contribution(value=str(value), rows=rows, share=rows / total) for value, rows in found[:limit]]


def _odd(kind: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    """Tells the values that no whole number or, of text, no number is."""
    if kind == pa.string():
        return lambda array: parse_numbers(array, pa.float64())[1]
    return lambda array: pc.not_equal(array, pc.trunc(array))


def _alike(value: str, known: set[str]) -> str:
    """The known value that `value` may be another spelling of; "" where there is none."""
    folded = {one.casefold(): one for one in sorted(known)}
    near = difflib.get_close_matches(value.casefold(), folded, n=1, cutoff=0.8)
    return folded[near[0]] if near else ""


def _outward(number: float, kind: str, direction: int) -> float:
    """A whole number as it is; another to three digits, away from what is inside."""
    if kind == "int_domain" or number == 0:
        return number
    step = 10.0 ** (math.floor(math.log10(abs(number))) - 2)
    return (math.ceil if direction > 0 else math.floor)(number / step) * step


def _interval(low: float, high: float) -> str:
    ends = [f"at least {low:.15g}" if math.isfinite(low) else "", f"at most {high:.15g}" if math.isfinite(high) else ""]
    return ", ".join(filter(None, ends))
