"""The features that the page of a night shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nightly.records.distributions import FeatureDistribution
from nightly.records.night import Reason
from nightly_airflow.web.history import Point
from nightly_airflow.web.views import NightDetails

SERVING = "serving"  # the control of a finding that compares requests to production with training


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

    def without_values(self) -> FeatureCard:
        """Return the card without its most frequent values, where they are shown elsewhere."""
        shown = self.distribution and self.distribution.model_copy(update={"values": []})
        return replace(self, distribution=shown)


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
        for name, series in details.history.drift.items()
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
