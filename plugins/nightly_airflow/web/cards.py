"""What the page of a night shows of each metric and of each feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nightly.records.distributions import FeatureDistribution
from nightly.records.night import AGAINST_PRODUCTION, Reason
from nightly_airflow.web.views import NightDetails, Point

SERVING = "serving"  # the control of findings about requests to production


@dataclass
class Metric:
    """One metric in one slice: the new model against production, and what the gate said of it."""

    name: str
    slice: str
    examples: int | None
    candidate: float | None
    production: float | None
    bound: Reason | None  # against a figure
    change: Reason | None  # against production

    @property
    def judged(self) -> str:
        """Each bound with how it was met: `≥ 0.60 ✓, drop ≤ 0.08 ✓`; "" where there is none."""
        words = []
        if self.bound and isinstance(self.bound.threshold, float | int):
            words.append(f"{_direction(self.bound)} {_bound(self.bound.threshold)} {_met(self.bound)}")
        if self.change and isinstance(self.change.threshold, float | int):
            how = "drop" if self.change.threshold < 0 else "rise"
            words.append(f"{how} ≤ {_bound(abs(self.change.threshold))} {_met(self.change)}")
        return ", ".join(words)

    @property
    def held(self) -> bool:
        return any(reason is not None and reason.held for reason in (self.bound, self.change))


@dataclass
class FeatureCard:
    """All there is to see of one feature."""

    name: str
    found: FeatureDistribution | None
    drift: Mapping[str, Sequence[Point]]  # control -> distances, the one nearest to its threshold first
    reasons: list[Reason]

    @property
    def held(self) -> bool:
        return any(reason.held for reason in self.reasons)

    @property
    def urgency(self) -> tuple[bool, float]:
        """Held first, then by how near the distance is to its threshold."""
        return self.held, max(map(nearness, self.drift.values()), default=0.0)


def _direction(reason: Reason) -> str:
    """≥ for a floor, ≤ for a ceiling: the finding says which by whether it held."""
    if reason.figure is None or reason.figure == reason.threshold:
        return "≤" if "at most" in reason.message else "≥"
    return "≥" if (reason.figure < reason.threshold) == reason.held else "≤"


def _bound(number: float) -> str:
    return f"{number:.2f}" if round(number, 2) == number else f"{number:g}"


def _met(reason: Reason) -> str:
    return "✕" if reason.held else "–" if reason.figure is None else "✓"


def nearness(points: Sequence[Point]) -> float:
    """Of this night's distance to its threshold: 1 is at it."""
    return points[-1].value / points[-1].threshold if points[-1].threshold else 0.0


def feature_cards(details: NightDetails) -> list[FeatureCard]:
    found = {feature.name: feature for feature in (details.distributions.features if details.distributions else [])}
    now = details.record.name
    drift = {  # a feature that was not measured in this night has no place in it
        name: {
            control: points
            for control, points in sorted(series.items(), key=lambda pair: -nearness(pair[1]))
            if points[-1].night == now
        }
        for name, series in details.drift.items()
    }
    names = found.keys() | {name for name, series in drift.items() if series}
    return [
        FeatureCard(
            name,
            found.get(name),
            drift.get(name, {}),
            [r for r in details.reasons if r.subject == name and r.control != SERVING],
        )
        for name in sorted(names)
    ]


def serving_cards(details: NightDetails) -> list[FeatureCard]:
    """Requests beside training: held first, then by name."""
    reasons = [reason for reason in details.reasons if reason.control == SERVING]
    cards = [
        FeatureCard(found.name, found, {}, [reason for reason in reasons if reason.subject == found.name])
        for found in (details.serving.features if details.serving else [])
        if found.missing_current is not None  # not the label, and nothing that was not compared
    ]
    return sorted(cards, key=lambda card: not card.held)


def metrics_of(details: NightDetails) -> list[Metric]:
    """Every figure of the evaluation; without its record, those that the gate judged."""
    said = {(reason.check, reason.subject): reason for reason in details.reasons}
    if details.evaluation is None:
        return [
            Metric(
                name=reason.check,
                slice="" if reason.subject == "all examples" else reason.subject,
                examples=None,
                candidate=reason.figure,
                production=None,
                bound=reason,
                change=said.get((reason.check + AGAINST_PRODUCTION, reason.subject)),
            )
            for reason in (details.model_gate.reasons if details.model_gate else [])
            if isinstance(reason.figure, float) and not reason.is_change
        ]
    evaluation, found = details.evaluation, []
    for key in sorted(evaluation.candidate, key=lambda key: (key != "", -evaluation.examples.get(key, 0))):
        for name, value in sorted(evaluation.candidate[key].items()):
            subject = key or "all examples"
            production = (evaluation.production or {}).get(key, {}).get(name)
            bound, change = said.get((name, subject)), said.get((name + AGAINST_PRODUCTION, subject))
            found.append(Metric(name, key, evaluation.examples.get(key), value, production, bound, change))
    return found
