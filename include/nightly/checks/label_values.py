"""Labels that cannot be learned: of the wrong type, out of range, of classes that are too rare, new or lost."""

import math
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from nightly.checks.evidence import Evidence
from nightly.checks.findings import CONTRIBUTIONS, fault, finding, not_measured
from nightly.checks.schema import counts
from nightly.records.label_config import BinaryLabel, ClassesLabel, NumberLabel
from nightly.records.label_spec import OTHER, LabelSummary
from nightly.records.night import Contribution, Reason
from nightly.snapshots.parsing import are_finite, parse_numbers

EXAMPLES = 2  # of a class in a split; of a single one nothing can be learned or said
LIKELY = 20  # rows that the other side makes likely; of fewer, there may be none by chance
HARDLY = 0.1  # of the expected rows; a class with fewer counts as absent
SURELY = 4  # standard deviations of a number of rows: chance makes one of 15,000 numbers smaller by so much
CLASSES, NUMBERS = ("string", "int64"), ("int64", "float")  # types of a snapshot's columns
Test = Callable[[pa.Array], pa.Array]
MISFITS: dict[str, Test] = {  # type -> the values that made the column one of this type; of other types, all
    "string": lambda array: parse_numbers(array, pa.float64())[1],
    "float": lambda array: pc.not_equal(array, pc.floor(array)),
}


def usable(evidence: Evidence) -> Iterator[Reason]:
    """Yield each fault of the labels' values that training could not survive."""
    label = evidence.config.data.label
    kind = evidence.manifest.columns.get(label.column)
    if kind is None or isinstance(label, BinaryLabel):
        return  # a missing column is reported by label.recorded; any value of a binary label is positive or negative
    if kind not in (NUMBERS if isinstance(label, NumberLabel) else CLASSES):
        yield _wrong_type(evidence, kind)
    elif isinstance(label, NumberLabel) and kind in NUMBERS:
        finite = "Have the source leave it blank where it is not known."
        yield from _faulty(evidence, "not a finite number", lambda array: pc.invert(are_finite(array)), finite)
        if label.transform == "log1p":
            action = 'Correct them; or set transform = "none" in [data.label] of config.toml.'
            problem = 'below 0, which transform = "log1p" does not allow'
            yield from _faulty(evidence, problem, lambda array: pc.less(array, 0), action)
    elif isinstance(label, ClassesLabel):
        yield from _rare(evidence, label)


def classes(evidence: Evidence) -> Iterator[Reason]:
    """Yield the number of new and of lost classes. A model has other outputs with them, or never gives one."""
    label = evidence.config.data.label
    if not isinstance(label, ClassesLabel):
        return
    before = {
        compared.control.name: summary
        for compared in evidence.present
        if (summary := compared.control.baseline.summary(label, evidence.classes)) and summary.rows
    }
    if evidence.classes:
        every = evidence.labels.summary(label)
        yield _new(evidence, [name for name in every.counts if name not in evidence.classes], every)
    elif before:
        yield _new(evidence, _absent(evidence.label, list(before.values())), evidence.label)
    if not before:
        for check in ("max_new_classes", "max_lost_classes")[bool(evidence.classes) :]:
            yield not_measured(check, "there is no control whose classes are known", subject=label.column)
        return
    near = [name for name in ("last_accepted", "production") if name in before] or list(before)[:1]
    yield _lost(evidence, {name: before[name] for name in near})


def _new(evidence: Evidence, names: list[str], every: LabelSummary) -> Reason:
    label, gate = evidence.config.data.label, evidence.gate
    names = [name for name in names if name != OTHER and every.counts[name] >= label.min_class_rows]
    names.sort(key=lambda name: (-every.counts[name], name))
    named = ", ".join(f"{name!r} ({every.counts[name]:,} rows)" for name in names[:CONTRIBUTIONS])
    which = "that the schema's domain lacks" if evidence.classes else "that no control has"
    return finding(
        *("max_new_classes", label.column, len(names), gate.max_new_classes),
        f"{label.column} has {_number(len(names), 'class', 'classes')} {which}" + (f": {named}" if named else ""),
        action="Look whether a class was renamed, split or merged; if it is really new, "
        + ("add it to the label's domain in schema.pbtxt." if evidence.classes else "clients must expect it."),
        values=[
            Contribution(value=name, rows=every.counts[name], share=every.share(name)) for name in names[:CONTRIBUTIONS]
        ],
        rows=lambda: evidence.rows.having(label.column, names),
    )


def _lost(evidence: Evidence, before: dict[str, LabelSummary]) -> Reason:
    """Return the finding about classes that are gone, with the control that had each.

    A class that fades by a few rows a night is hardly rarer than the night before. Only production shows it.

    :param before: control -> its labels
    """
    label, now = evidence.config.data.label, evidence.label
    titles = {compared.control.name: compared.control.title for compared in evidence.present}
    lost: dict[str, str] = {}  # class -> the control that had it
    few = label.min_class_rows if label.classes == "learned" else 0
    for control, summary in before.items():
        lost |= {name: control for name in _absent(summary, [now], few) if name not in lost}
    names = sorted(lost, key=lambda name: (-before[lost[name]].counts[name], name))
    named = ", ".join(
        f"{name!r} ({now.counts.get(name, 0):,} rows, {before[lost[name]].counts[name]:,} in {titles[lost[name]]})"
        for name in names[:CONTRIBUTIONS]
    )
    return finding(
        *("max_lost_classes", label.column, len(names), evidence.gate.max_lost_classes),
        f"{_number(len(names), 'class', 'classes')} of {label.column} {'is' if len(names) == 1 else 'are'} gone"
        + (f": {named}" if named else ""),
        action="Look whether a class was renamed or merged into another, or is no longer recorded.",
        values=[
            Contribution(
                value=name,
                rows=now.counts.get(name, 0),
                share=now.share(name),
                control=before[lost[name]].share(name),
            )
            for name in names[:CONTRIBUTIONS]
        ],
    )


def _absent(one: LabelSummary, others: list[LabelSummary], few: int = 0) -> list[str]:
    """Return the classes of `one` that all others lack, although one of them is large enough to have them.

    :param few: fewer rows than this are too few, where chance would not take so many
    """
    absent = []
    for name in one.counts:
        likely = [(other.counts.get(name, 0), one.share(name) * other.rows) for other in others]
        has = any(
            rows and rows >= max(HARDLY * expected, few if expected - few > SURELY * math.sqrt(expected) else 0)
            for rows, expected in likely
        )
        if name != OTHER and not has and max(expected for _, expected in likely) >= LIKELY:
            absent.append(name)
    return absent


def _wrong_type(evidence: Evidence, kind: str) -> Reason:
    """Name the first value that is not of the label's kind."""
    label = evidence.config.data.label
    expected = "a number" if isinstance(label, NumberLabel) else "text or a whole number"
    matches = evidence.rows.find([label.column], MISFITS.get(kind, lambda array: array.is_valid()))
    example = f": {matches.value!r} in {matches.references[0]}" if matches.rows else ""
    return fault(
        *("label", label.column),
        f"the label {label.column} is not {expected}, as data.label.kind = {label.kind!r} needs, "
        f"in {_number(matches.rows, 'row', 'rows')}{example}",
        figure=kind,
        threshold=expected,
        action="Ask the source's owner; or configure the label as what it is.",
        rows=matches.references,
    )


def _faulty(evidence: Evidence, problem: str, test: Test, action: str) -> Iterator[Reason]:
    label = evidence.config.data.label
    matches = evidence.rows.find([label.column], test)
    if matches.rows:
        yield fault(
            *("label", label.column),
            f"the label {label.column} is {problem}, in {_number(matches.rows, 'row', 'rows')}: "
            f"{matches.value} in {matches.references[0]}",
            figure=matches.rows,
            threshold=0,
            action=action,
            rows=matches.references,
        )


def _number(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"


def _rare(evidence: Evidence, label: ClassesLabel) -> Iterator[Reason]:
    """Warn of classes with a single example or none. Learned classes are only that rare if a single row is enough."""
    names, action = evidence.classes, 'Take them out of the label\'s domain, or set classes = "learned".'
    if label.classes == "learned":
        if label.min_class_rows >= EXAMPLES:
            return
        names = evidence.label.counts.keys() - {OTHER}
        action = f"With data.label.min_class_rows = {EXAMPLES} or more, rare classes share the class {OTHER}."
    for purpose, rows in _examples(evidence, label).items():
        rare = sorted(name for name in names if rows.get(name, 0) < EXAMPLES)
        if rare:
            named = ", ".join(f"{name!r} ({rows.get(name, 0)})" for name in rare[:CONTRIBUTIONS])
            more = f" and {len(rare) - CONTRIBUTIONS} more" if len(rare) > CONTRIBUTIONS else ""
            yield Reason(
                check="label",
                subject=label.column,
                figure=f"{len(rare)} rare classes",
                threshold=f"{EXAMPLES} examples of each",
                held=False,
                severity="warning",
                message=f"classes of {label.column} with fewer than {EXAMPLES} examples{purpose}: {named}{more}",
                action=action,
                rows=evidence.rows.having(label.column, [name for name in rare if rows.get(name)]),
            )


def _examples(evidence: Evidence, label: ClassesLabel) -> dict[str, dict[str, int]]:
    """Return purpose -> class -> examples, by split where the statistics count each value, as they do of text."""
    splits = {" to train on": evidence.train, " to judge by": evidence.eval}
    stats = {purpose: split.features.get(label.column) for purpose, split in splits.items()}
    if all(matches is not None and matches.HasField("string_stats") for matches in stats.values()):
        return {purpose: counts(matches) for purpose, matches in stats.items()}
    return {"": evidence.label.counts}
