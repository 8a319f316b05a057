"""Propose a schema change that would make a held night's data valid. A person approves it elsewhere.

A proposal may add a column or values of a domain, change a type, widen a range, or lower the share of rows that must
have a feature. It never removes a column, because the model reads it, and never touches the label, which config.toml
defines.
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
from nightly.checks.proposal_values import VALUES, alike_of, interval, most_frequent, odd, outward, type_of
from nightly.checks.schema import counts, domain_of
from nightly.records.night import Contribution, utc_now
from nightly.records.schema import SchemaChange, SchemaProposal
from nightly.schemas.curated import SchemaError, parse_schema
from nightly.schemas.features import BYTES_TAG, image_fault
from nightly.schemas.store import sha256
from nightly.schemas.text import Field, SchemaEditError, SchemaText, comments, quoted
from nightly.snapshots.types import is_list

log = logging.getLogger("nightly")

Anomaly = anomalies_pb2.AnomalyInfo
Statistics = dict[str, statistics_pb2.DatasetFeatureStatisticsList]  # by split
CATEGORIES = 20  # a new text column with at most this many values gets a domain
ROUNDS = 3  # after its type is changed, a column may also be out of its range
# Type in the statistics -> the type that a column can change to. A column of text in the schema stays text.
DELIVERED = {statistics_pb2.FeatureNameStatistics.FLOAT: "FLOAT", statistics_pb2.FeatureNameStatistics.STRING: "BYTES"}
UNPRINTABLE = ("__BYTES_VALUE__", "__LARGE_BYTES__")  # TFDV's placeholders for unprintable and long values


def propose(evidence: Evidence, statistics: Statistics, text: str) -> SchemaProposal | None:
    """Propose changes of the schema `text` that held the night; None if there are none.

    :param evidence: the data gate's evidence
    :param statistics: of each split, to validate against the edited schema
    """
    edited, changes, schema, anomalies = text, [], evidence.schema, evidence.anomalies
    try:
        for _ in range(ROUNDS):
            editing = Editing(replace(evidence, schema=schema, anomalies=anomalies), SchemaText(edited))
            new_changes = list(editing.changes())
            if not new_changes:
                break
            changes += new_changes
            edited = editing.text.edited()
            schema = _checked(text, edited)
            anomalies = _validated(statistics, _as_delivered(schema, changes, evidence.manifest.columns))
    except (SchemaEditError, SchemaError) as error:
        log.warning("no schema change is proposed: %s. Edit schema.pbtxt by hand.", error)
        return None
    if not changes:
        return None
    after = replace(evidence, schema=_as_delivered(schema, changes, evidence.manifest.columns), anomalies=anomalies)
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
    """Return a unified diff."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), from_name, to_name, lineterm="")
    return "\n".join(lines)


@dataclass
class Editing:
    """One pass over the anomalies, which edits the text for each that a schema change can resolve."""

    evidence: Evidence
    text: SchemaText
    domains: dict[str, list[str]] = field(default_factory=dict)  # domain -> values already added; features may share it

    def changes(self) -> Iterator[SchemaChange]:
        for feature, types in sorted(self._held().items()):
            for make in dict.fromkeys(MAKERS[kind] for kind in sorted(types) if kind in MAKERS):
                if change := make(self, feature):
                    yield change

    def _held(self) -> dict[str, set[int]]:
        """Return feature -> the types of its anomalies that hold in any split, except the label's."""
        held: dict[str, set[int]] = {}
        for anomalies in self.evidence.anomalies.values():
            for info in anomalies.anomaly_info.values():
                name = ".".join(info.path.step)
                if info.severity == Anomaly.ERROR and name != self.evidence.config.data.label.column:
                    held.setdefault(name, set()).update(reason.type for reason in info.reason)
        return held

    def new_column(self, feature: str) -> SchemaChange:
        column, delivered = self._column(feature), self.evidence.manifest.columns.get(feature, "string")
        kind, domain = type_of(column), []
        count = "value_count { min: 1 }" if is_list(delivered) else "value_count { min: 1 max: 1 }"
        if pa.types.is_binary(column.type):
            images = not any(map(image_fault, column.drop_null().to_pylist()))
            domain = ["image_domain {}" if images else f"annotation {{ tag: {quoted(BYTES_TAG)} }}"]
        elif kind == "BYTES":
            values = sorted(set(column.drop_null().to_pylist())) if len(column.unique()) <= CATEGORIES else []
            if values:
                listed = " ".join(f"value: {quoted(value)}" for value in values)
                domain = [f"string_domain {{ name: {quoted(feature)} {listed} }}"]
        lines = [f"name: {quoted(feature)}", f"type: {kind}", "presence { min_count: 1 }"]
        self.text.add_feature([*lines, count, *domain])
        summary = "images" if "image_domain {}" in domain else "bytes" if pa.types.is_binary(column.type) else kind
        summary += f", one of {len(values)} values" if domain and pa.types.is_string(column.type) else ""
        summary = f"lists of {summary}" if is_list(delivered) else summary
        return SchemaChange(
            feature=feature,
            kind="new column",
            old="",
            new=summary,
            risk="No model reads it until features.py and preprocessing.py do, and its drift is not measured until a "
            "person gives it a comparator; where it is not wanted, name it in data.ignore of config.toml instead.",
            values=most_frequent(column),
        )

    def new_values(self, feature: str) -> SchemaChange | None:
        known = domain_of(self.evidence, feature) or set()
        column = self._column(feature)
        seen = {value for side in self._sides(feature) for value in counts(side)} - known - {*UNPRINTABLE}
        new = [entry for entry in most_frequent(column, None) if entry.value in seen]
        if not new:
            return None
        block = self.text.domain(feature, "string_domain")
        written = self.domains.setdefault(self.text.read(block.one("name")) if block.one("name") else feature, [])
        missing = [entry.value for entry in new if entry.value not in written]
        self.text.append(block, "value", [f"value: {quoted(value)}" for value in missing])
        written += missing
        alike = {entry.value: near for entry in new if (near := alike_of(entry.value, known))}
        spelled = "; ".join(f"{value!r} looks like {old!r}" for value, old in alike.items())
        return SchemaChange(
            feature=feature,
            kind="new values",
            old=f"{len(known)} values",
            new=", ".join(repr(entry.value) for entry in new),
            risk="They are out of the vocabulary of the model in production, which was never trained on them"
            + (f"; a new spelling would split what was one: {spelled}." if spelled else "."),
            values=new[:VALUES],
            rows=self.evidence.rows.having(feature, [entry.value for entry in new]),
        )

    def new_type(self, feature: str) -> SchemaChange | None:
        """Change INT to FLOAT for numbers with fractions, or a number to BYTES for text.

        The snapshot keeps the delivered type.
        """
        block = self.text.feature(feature)
        side = next(self._sides(feature), None)
        old = self.text.read(block.one("type")) if block.one("type") else ""
        kind = DELIVERED.get(side.type) if side is not None else None
        if not old or kind in (None, old):
            return None
        self.text.replace(block.one("type"), kind)
        domain = block.one("int_domain")
        if kind == "FLOAT":
            if domain:
                self.text.rename(domain, "float_domain")
            risk = "preprocessing.py and the clients know whole numbers so far: both must take fractions."
        else:
            for name in ("int_domain", "float_domain", "drift_comparator", "skew_comparator"):
                for entry in block.all(name):
                    self.text.remove(entry)
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
            values=most_frequent(column),
            rows=self.evidence.rows.examples(feature, odd(column.type)),
        )

    def wider_range(self, feature: str) -> SchemaChange | None:
        sides = [side.num_stats for side in self._sides(feature) if side.HasField("num_stats")]
        known = next(entry for entry in self.evidence.schema.feature if entry.name == feature)
        kind = "int_domain" if known.type == schema_pb2.INT else "float_domain"
        block = self.text.domain(feature, kind)
        low, high = (self._bound(block, name) for name in ("min", "max"))
        new_low = min([low, *(outward(side.min, kind, -1) for side in sides if side.min < low)])
        new_high = max([high, *(outward(side.max, kind, 1) for side in sides if side.max > high)])
        if (low, high) == (new_low, new_high):
            return None
        for name, old, new in (("min", low, new_low), ("max", high, new_high)):
            if old != new:
                self.text.replace(block.one(name), f"{new:.15g}")
        column = self._column(feature)
        beyond = column.filter(pc.or_(pc.less(column, low), pc.greater(column, high)))
        return SchemaChange(
            feature=feature,
            kind="range",
            old=interval(low, high),
            new=interval(new_low, new_high),
            risk="The model in production has never seen such numbers; another unit or a typing error looks the same.",
            values=most_frequent(beyond, VALUES, of=len(column) - column.null_count),
            rows=self.evidence.rows.examples(feature, lambda a: pc.or_(pc.less(a, low), pc.greater(a, high))),
        )

    def lower_presence(self, feature: str) -> SchemaChange | None:
        """Lower the required share of rows, but not to 0: a column without values counts as removed."""
        examples = (self.evidence.train, self.evidence.eval)
        shares = [common(m.features[feature]).num_non_missing / m.examples for m in examples if feature in m.features]
        block = self.text.feature(feature).one("presence")
        known = block.one("min_fraction") if block else None
        share = math.floor(min(shares, default=0) * 100) / 100
        vector = self.text.feature(feature).one("shape")  # it must be in every row
        if known is None or vector or not share or share >= float(self.text.read(known)):
            return None
        old = self.text.read(known)
        self.text.replace(known, f"{share:g}")
        column = self._column(feature, flat=False)
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

    def _column(self, feature: str, *, flat: bool = True) -> pa.ChunkedArray:
        """Return the snapshot's values, or its lists. TFDV's statistics keep the most frequent values only."""
        files = sorted(self.evidence.rows.folder.glob("rows-*.parquet"))
        chunks = [c for path in files for c in pq.read_table(path, columns=[feature]).column(0).chunks]
        return pa.chunked_array([c.flatten() if flat and pa.types.is_list(c.type) else c for c in chunks])

    def _bound(self, block: Field, name: str) -> float:
        known = block.one(name)
        return float(self.text.read(known)) if known else {"min": -math.inf, "max": math.inf}[name]


MAKERS: dict[int, Callable[[Editing, str], SchemaChange | None]] = {
    Anomaly.SCHEMA_NEW_COLUMN: Editing.new_column,
    Anomaly.ENUM_TYPE_UNEXPECTED_STRING_VALUES: Editing.new_values,
    Anomaly.UNEXPECTED_DATA_TYPE: Editing.new_type,
    Anomaly.INT_TYPE_SMALL_INT: Editing.wider_range,
    Anomaly.INT_TYPE_BIG_INT: Editing.wider_range,
    Anomaly.FLOAT_TYPE_SMALL_FLOAT: Editing.wider_range,
    Anomaly.FLOAT_TYPE_BIG_FLOAT: Editing.wider_range,
    Anomaly.FEATURE_TYPE_LOW_FRACTION_PRESENT: Editing.lower_presence,
}


def _checked(base: str, edited: str) -> schema_pb2.Schema:
    """Parse the edited schema. Raises SchemaEditError if a comment or feature was lost."""
    schema = parse_schema(edited, where="the proposed schema")
    if comments(base) != comments(edited):
        raise SchemaEditError("the edit would lose a comment")
    before = text_format.Parse(base, schema_pb2.Schema())
    if [f.name for f in before.feature] != [f.name for f in schema.feature][: len(before.feature)]:
        raise SchemaEditError("the edit would lose a feature")
    return schema


def _as_delivered(schema: schema_pb2.Schema, changes: list[SchemaChange], columns: dict[str, str]) -> schema_pb2.Schema:
    """Return the schema with new columns as BYTES, the type that they have in this night's examples.

    A new column is read as text, and becomes a number when a snapshot is written with the new schema. Lists keep their
    type.
    """
    new = {change.feature for change in changes if change.kind == "new column"}
    new = {name for name in new if not is_list(columns.get(name, "string"))}
    delivered = schema_pb2.Schema()
    delivered.CopyFrom(schema)
    for feature in delivered.feature:
        if feature.name in new:
            feature.type = schema_pb2.BYTES
    return delivered


def _validated(statistics: Statistics, schema: schema_pb2.Schema) -> dict[str, anomalies_pb2.Anomalies]:
    return {split: tfdv.validate_statistics(measured, schema) for split, measured in statistics.items()}
