"""Drift against each control, and skew between the splits, by TFDV's distances."""

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from nightly.checks.evidence import Evidence, Measured, SnapshotRows
from nightly.checks.findings import CONTRIBUTIONS, finding, not_measured
from nightly.checks.schema import counts, values_in
from nightly.records.night import NEWEST_DAYS, Contribution, Reason


class Share(NamedTuple):
    """A light form of Contribution: thousands are compared, but only the largest are reported."""

    value: str
    rows: int
    share: float
    control: float | None

    @property
    def change(self) -> float:
        return self.share - (self.control or 0.0)


def drift(evidence: Evidence) -> Iterator[Reason]:
    features = {feature.name for feature in evidence.schema.feature if feature.HasField("drift_comparator")}
    for compared in evidence.compared:
        control = compared.control
        if compared.train is None or compared.distances is None:
            yield not_measured("drift", control.missing, control=control.name, title=control.title)
            continue
        measured = {_name(info) for info in compared.distances.drift_skew_info if info.drift_measurements}
        for feature in sorted(features - measured):
            side = "the control" if feature in evidence.train.features else "this night"
            yield not_measured(
                *("drift", f"{side} has no {feature}"), subject=feature, control=control.name, title=control.title
            )
        for info in compared.distances.drift_skew_info:
            for distance in info.drift_measurements:
                where = control.title, control.name
                yield _judged(evidence, "drift", _name(info), distance, compared.train, compared.rows, *where)


def skew(evidence: Evidence) -> Iterator[Reason]:
    """Yield the distances between the splits. They hold only if chance divides the rows.

    If the eval split is the newest days, a distance is also change over time, which is no fault by itself.
    """
    by_time = evidence.config.data.eval == "newest"
    where = ("the newest days, which are held out", NEWEST_DAYS) if by_time else ("the eval split", "eval")
    for info in evidence.skew.drift_skew_info:
        for distance in info.skew_measurements:
            reason = _judged(evidence, "skew", _name(info), distance, evidence.eval, None, *where)
            if by_time and reason.held:
                reason = reason.model_copy(update={"held": False, "severity": "warning"})
            yield reason


def _judged(
    evidence: Evidence,
    kind: str,
    feature: str,
    distance: anomalies_pb2.DriftSkewInfo.Measurement,
    control: Measured,
    before: SnapshotRows | None,
    title: str,
    name: str,
) -> Reason:
    smallest = min(evidence.train.examples, control.examples)
    if kind == "drift":
        smallest = min(smallest, evidence.eval.examples)
    broken = distance.value > distance.threshold
    values, rows = _contributions(evidence, feature, control, before if broken else None)
    most = named(values)
    return finding(
        *(kind, feature, distance.value, distance.threshold),
        f"{feature} is {distance.value:.3f} away from {title}",
        limit=f"{distance.threshold:.3f} is allowed",
        more=f"; most in {most}" if most and broken else "",
        action=f"Compare the two distributions of {feature}; if the change is real and wanted, "
        f"run again with the threshold {kind}.{feature} and a reason.",
        control=name,
        sample=smallest,
        enough=evidence.gate.min_rows_for_distance,
        values=values,
        rows=rows,
    )


def named(values: list[Contribution]) -> str:
    """Return text with the first two values, each with its share and the control's."""
    return "; ".join(
        f"{value.value}: {value.share:.1%}" + (f" ({value.control:.1%})" if value.control is not None else " (new)")
        for value in values[:2]
    )


def _name(info: anomalies_pb2.DriftSkewInfo) -> str:
    return ".".join(info.path.step)


def _contributions(
    evidence: Evidence, feature: str, control: Measured, before: SnapshotRows | None
) -> tuple[list[Contribution], Callable[[], list[str]]]:
    """Return the values or ranges whose shares differ most, and a function that finds rows of the most grown one.

    :param before: the control's rows, to count its numbers; None to skip ranges
    """
    shares, ranges = differences(evidence.train.features.get(feature), control.features.get(feature)), []
    if not shares and before:
        shares, ranges = number_shares(evidence.rows.numbers(feature), before.numbers(feature))
    grown = max(range(len(shares)), key=lambda n: (shares[n].change, shares[n].value), default=None)
    most = largest(shares)
    if grown is None:
        return most, list
    if ranges:
        return most, lambda: evidence.rows.between(feature, *ranges[grown])
    return most, lambda: evidence.rows.having(feature, [shares[grown].value])


def largest(shares: list[Share]) -> list[Contribution]:
    """Return the shares that changed most."""
    most = heapq.nsmallest(CONTRIBUTIONS, shares, key=lambda share: (-abs(share.change), share.value))
    return [Contribution(**share._asdict()) for share in most]


def differences(
    now: statistics_pb2.FeatureNameStatistics | None, before: statistics_pb2.FeatureNameStatistics | None
) -> list[Share]:
    """Return the shares of a text feature's values on both sides.

    A value that one side may have but does not list is left out. A number has no shares here, because statistics do
    not tell how many rows lie in a range (see number_shares).
    """
    if now is None or before is None or not (now.HasField("string_stats") and before.HasField("string_stats")):
        return []
    new, old = counts(now), counts(before)
    total, total_before = max(values_in(now), 1), max(values_in(before), 1)
    known = new.keys() | old.keys()
    for side, stats in ((new, now), (old, before)):
        if stats.string_stats.unique > len(side):
            known &= side.keys()
    return [
        Share(
            value=value,
            rows=new.get(value, 0),
            share=round(new.get(value, 0) / total, 6),
            control=round(old[value] / total_before, 6) if value in old else None,
        )
        for value in known
    ]


def number_shares(now: np.ndarray, before: np.ndarray) -> tuple[list[Share], list[tuple[float, float]]]:
    """Count the shares of numbers between, below and above the control's deciles. Return them with these ranges.

    A range is named by its smallest and its largest number, both included.
    """
    if not len(now) or not len(before):
        return [], []
    deciles, times = np.unique(np.quantile(before, np.linspace(0, 1, 11), method="inverted_cdf"), return_counts=True)
    times[-1] += 1  # no range above the largest number
    sides = [np.sort(side) for side in (now, before)]
    # A decile that many rows have is a range of its own.
    often = deciles[times > 1]
    cuts = [
        sorted([0, *np.searchsorted(side, deciles), *np.searchsorted(side, often, "right"), len(side)])
        for side in sides
    ]
    shares, ranges = [], []
    for n in range(len(cuts[0]) - 1):
        (new, old) = inside = [side[cut[n] : cut[n + 1]] for side, cut in zip(sides, cuts, strict=True)]
        if not len(new) + len(old):
            continue
        low = min(part[0] for part in inside if len(part))
        high = max(part[-1] for part in inside if len(part))
        value = _text(low) if low == high else f"{_text(low)} to {_text(high)}"
        share, control = round(len(new) / len(now), 6), round(len(old) / len(before), 6)
        shares.append(Share(value=value, rows=len(new), share=share, control=control))
        ranges.append((low.item(), high.item()))
    return shares, ranges


def _text(number: np.number) -> str:
    """Format a number without binary rounding noise."""
    return str(number) if isinstance(number, np.integer) else f"{number:.15g}"
