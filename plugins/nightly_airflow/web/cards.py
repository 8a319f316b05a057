"""The metrics and features that the page of a night shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nightly.records.distributions import FeatureDistribution
from nightly.records.night import AGAINST_PRODUCTION, Reason
from nightly_airflow.web.views import NightDetails, Point

SERVING = "serving"  # the control of a finding that compares requests to production with training


@dataclass
class Metric:
    """One metric in one slice: the new model's value, production's, and the gate's findings."""

    name: str
    slice: str
    examples: int | None
    candidate: float | None
    production: float | None
    bound: Reason | None  # the finding against a fixed bound
    change: Reason | None  # the finding against production

    @property
    def judged(self) -> str:
        """Return each bound and whether it was met: `≥ 0.60 ✓, drop ≤ 0.08 ✓`; "" if there is none."""
        bounds = []
        if self.bound and isinstance(self.bound.threshold, float | int):
            bounds.append(f"{_direction(self.bound)} {_bound(self.bound.threshold)} {_met(self.bound)}")
        if self.change and isinstance(self.change.threshold, float | int):
            direction = "drop" if self.change.threshold < 0 else "rise"
            bounds.append(f"{direction} ≤ {_bound(abs(self.change.threshold))} {_met(self.change)}")
        return ", ".join(bounds)

    @property
    def held(self) -> bool:
        return any(reason is not None and reason.held for reason in (self.bound, self.change))


@dataclass
class FeatureCard:
    """One feature: its distribution, drift and findings."""

    name: str
    distribution: FeatureDistribution | None
    drift: Mapping[str, Sequence[Point]]  # control -> distances by night; the control nearest to its threshold first
    reasons: list[Reason]

    @property
    def held(self) -> bool:
        return any(reason.held for reason in self.reasons)

    @property
    def urgency(self) -> tuple[bool, float]:
        """Return a key that sorts by held, then by the ratio of distance to threshold."""
        return self.held, max(map(nearness, self.drift.values()), default=0.0)


def _direction(reason: Reason) -> str:
    """Return ≥ for a floor, ≤ for a ceiling, inferred from the value and whether it held."""
    if reason.figure is None or reason.figure == reason.threshold:
        return "≤" if "at most" in reason.message else "≥"
    return "≥" if (reason.figure < reason.threshold) == reason.held else "≤"


def _bound(number: float) -> str:
    return f"{number:.2f}" if round(number, 2) == number else f"{number:g}"


def _met(reason: Reason) -> str:
    return "✕" if reason.held else "–" if reason.figure is None else "✓"


def nearness(points: Sequence[Point]) -> float:
    """Return the ratio of this night's distance to its threshold, or 0.0 without a threshold."""
    return points[-1].value / points[-1].threshold if points[-1].threshold else 0.0


def feature_cards(details: NightDetails) -> list[FeatureCard]:
    features = details.distributions.features if details.distributions else []
    distributions = {feature.name: feature for feature in features}
    now = details.record.name
    drift = {  # without features that were not measured in this night
        name: {
            control: points
            for control, points in sorted(series.items(), key=lambda pair: -nearness(pair[1]))
            if points[-1].night == now
        }
        for name, series in details.drift.items()
    }
    names = distributions.keys() | {name for name, series in drift.items() if series}
    return [
        FeatureCard(
            name,
            distributions.get(name),
            drift.get(name, {}),
            [r for r in details.reasons if r.subject == name and r.control != SERVING],
        )
        for name in sorted(names)
    ]


def serving_cards(details: NightDetails) -> list[FeatureCard]:
    """Return the features of requests compared with training: held ones first, then by name."""
    reasons = [reason for reason in details.reasons if reason.control == SERVING]
    cards = [
        FeatureCard(feature.name, feature, {}, [reason for reason in reasons if reason.subject == feature.name])
        for feature in (details.serving.features if details.serving else [])
        if feature.missing_current is not None  # leaves out the label and features that were not compared
    ]
    return sorted(cards, key=lambda card: not card.held)


def metrics_of(details: NightDetails) -> list[Metric]:
    """Return every metric of the evaluation; without its record, those that the gate judged."""
    findings = {(reason.check, reason.subject): reason for reason in details.reasons}
    if details.evaluation is None:
        return [
            Metric(
                name=reason.check,
                slice="" if reason.subject == "all examples" else reason.subject,
                examples=None,
                candidate=reason.figure,
                production=None,
                bound=reason,
                change=findings.get((reason.check + AGAINST_PRODUCTION, reason.subject)),
            )
            for reason in (details.model_gate.reasons if details.model_gate else [])
            if isinstance(reason.figure, float) and not reason.is_change
        ]
    evaluation, metrics = details.evaluation, []
    for key in sorted(evaluation.candidate, key=lambda key: (key != "", -evaluation.examples.get(key, 0))):
        for name, value in sorted(evaluation.candidate[key].items()):
            subject = key or "all examples"
            production = (evaluation.production or {}).get(key, {}).get(name)
            bound, change = findings.get((name, subject)), findings.get((name + AGAINST_PRODUCTION, subject))
            metrics.append(Metric(name, key, evaluation.examples.get(key), value, production, bound, change))
    return metrics
