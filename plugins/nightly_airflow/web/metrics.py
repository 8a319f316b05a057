"""The metrics of a night's model that its page shows, beside production's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist

from nightly.nights import older_findings
from nightly.records.evaluation import OVERALL, Difference, Evaluation
from nightly.records.night import AGAINST_PRODUCTION, ALL_EXAMPLES, CONSTANT, Reason
from nightly_airflow.web.views import NightDetails

ALPHA = 0.05  # of a night whose thresholds were not recorded


@dataclass
class Metric:
    """One metric in one slice or of one class: the new model's value, production's, and the gate's findings."""

    name: str
    slice: str
    examples: int | None
    candidate: float | None
    production: float | None
    bound: Reason | None  # the finding against a fixed bound
    change: Reason | None  # the finding against production
    of: str = ""  # the class that the metric is of
    difference: Difference | None = None  # to production, with its standard error
    alpha: float = ALPHA  # on each side of the interval

    @property
    def judged(self) -> str:
        """Return each bound and whether it was met: `≥ 0.60 ✓, drop ≤ 0.08 ✓`; "" if there is none."""
        bounds = []
        if self.bound and isinstance(self.bound.threshold, float | int):
            sign = "≤" if _lower_is_better(self.bound) else "≥"
            bounds.append(f"{sign} {_bound(self.bound.threshold)}{_met(self.bound)}")
        if self.change and isinstance(self.change.threshold, float | int):
            direction = "rise" if _lower_is_better(self.change) else "drop"
            bounds.append(f"{direction} ≤ {_bound(abs(self.change.threshold))}{_met(self.change)}")
        return ", ".join(bounds)

    @property
    def is_judged(self) -> bool:
        return self.bound is not None or self.change is not None

    @property
    def held(self) -> bool:
        return any(reason is not None and reason.held for reason in (self.bound, self.change))

    @property
    def undecided(self) -> bool:
        return self.change is not None and self.change.undecided

    @property
    def value(self) -> str:
        return measured(self.candidate)

    @property
    def before(self) -> str:
        return measured(self.production)

    @property
    def effect(self) -> str:
        """Return the difference to production: `+0.0030 ± 0.0060`, with `better` or `worse` if that is sure."""
        if self.candidate is not None and self.production is not None:
            change = self.difference.value if self.difference else self.candidate - self.production
        elif self.change and isinstance(self.change.figure, float | int):
            change = self.change.figure
        else:
            return "–"
        digits = _digits(max(abs(self.candidate or 0.0), abs(self.production or 0.0)))
        if self.difference is None:
            return signed(change, digits)
        return f"{signed(change, digits)} ± {plain(self._reach, digits)}{self._direction(change)}"

    @property
    def _reach(self) -> float:
        if self.change is not None and self.change.chance is not None:
            return self.change.chance
        return reach(self.difference, self.alpha) if self.difference else 0.0

    def _direction(self, change: float) -> str:
        """Return whether the change is surely for better or worse, as known by the bounds; "" if it is not."""
        reason = self.change or self.bound
        if abs(change) <= self._reach or reason is None:
            return ""
        return ", better" if (change < 0) == _lower_is_better(reason) else ", worse"


@dataclass
class ConstantAnswer:
    """The comparison with the best constant answer, which needs no model."""

    text: str
    reason: Reason | None  # None if the gate does not ask for it

    @property
    def met(self) -> str:
        """Return the mark of the finding; "" if it was not judged, or surely holds."""
        reason = self.reason
        if reason is None or reason.figure is None or (reason.held and not reason.undecided):
            return ""
        return _met(reason)

    @property
    def held(self) -> bool:
        return self.reason is not None and self.reason.held


@dataclass
class ClassMetrics:
    """The metrics of one class, in the order of ModelMetrics.class_names; None where one is missing."""

    name: str
    examples: int | None
    metrics: list[Metric | None]


@dataclass
class ModelMetrics:
    """All metrics of a night, in the groups in which the page shows them."""

    shown: list[Metric]  # judged of all examples, and everything that held the night
    slices: list[Metric] = field(default_factory=list)
    others: list[Metric] = field(default_factory=list)  # of all examples, not judged
    class_names: list[str] = field(default_factory=list)  # of metrics
    classes: list[ClassMetrics] = field(default_factory=list)
    constant: ConstantAnswer | None = None
    with_errors: bool = False  # whether any difference has a standard error
    as_judged: bool = False  # whether the intervals of what is judged are the gate's own
    confidence: str = ""  # of the intervals, such as "90 %"

    @property
    def classes_held(self) -> str:
        """Return which part of the classes' judged metrics held the night, as the end of a phrase."""
        metrics = [metric for of in self.classes for metric in of.metrics if metric and metric.is_judged]
        held = sum(metric.held for metric in metrics)
        if not metrics:
            return ", not judged"
        undecided = sum(metric.undecided for metric in metrics)
        summary = f", {held:,} of {len(metrics):,} metrics held" if held else ", none held"
        return summary + (f", {undecided:,} undecided" if undecided else "")


def model_metrics(details: NightDetails) -> ModelMetrics:
    metrics = metrics_of(details)
    overall = [metric for metric in metrics if not metric.slice and not metric.of]
    judged = [metric for metric in overall if metric.is_judged]
    of_classes = [metric for metric in metrics if metric.of]
    names = sorted({metric.name for metric in of_classes})
    return ModelMetrics(
        shown=[*(judged or overall), *(metric for metric in metrics if (metric.slice or metric.of) and metric.held)],
        slices=[metric for metric in metrics if metric.slice and not metric.of and not metric.held],
        others=[metric for metric in overall if metric not in judged] if judged else [],
        class_names=names,
        classes=_by_class(of_classes, names, details.evaluation),
        constant=constant_answer(details),
        as_judged=any(
            reason.chance is not None for reason in details.reasons if reason.is_change or reason.check == CONSTANT
        ),
        with_errors=any(metric.difference for metric in metrics),
        confidence=f"{1 - 2 * _alpha(details):.0%}".replace("%", " %"),
    )


def constant_answer(details: NightDetails) -> ConstantAnswer | None:
    """Return how the model compares with the best constant answer; None if that was neither measured nor judged."""
    evaluation = details.evaluation
    reason = next((reason for reason in details.reasons if reason.check == CONSTANT), None)
    gain = evaluation.better_than_constant if evaluation else None
    if evaluation is None or gain is None:
        return ConstantAnswer(reason.message, reason) if reason else None
    digits = _digits(gain.value)
    chance = reason.chance if reason and reason.chance is not None else reach(gain, _alpha(details))
    interval = f"{plain(abs(gain.value), digits)} ± {plain(chance, digits)}"
    word = "better" if gain.value > 0 else "worse"
    text = f"the {evaluation.constant_loss} is {word} than that of the best constant answer, by {interval}"
    return ConstantAnswer(text, reason)


def metrics_of(details: NightDetails) -> list[Metric]:
    """Return every metric of the evaluation; without its record, those that the gate judged."""
    findings = {(reason.check, reason.subject): reason for reason in details.reasons}
    if details.evaluation is None:
        return [
            Metric(
                name=_split(reason.check)[0],
                of=_split(reason.check)[1],
                slice="" if reason.subject == ALL_EXAMPLES else reason.subject,
                examples=None,
                candidate=reason.figure,
                production=None,
                bound=reason,
                change=findings.get((reason.check + AGAINST_PRODUCTION, reason.subject)),
            )
            for reason in (details.model_gate.reasons if details.model_gate else [])
            if isinstance(reason.figure, float) and not reason.is_change and reason.check != CONSTANT
        ]
    evaluation, alpha, metrics = details.evaluation, _alpha(details), []
    for key in sorted(evaluation.candidate, key=lambda key: (key != OVERALL, -evaluation.examples.get(key, 0))):
        for full_name, value in sorted(evaluation.candidate[key].items()):
            name, of = _split(full_name)
            subject = key or ALL_EXAMPLES
            metrics.append(
                Metric(
                    name=name,
                    of=of,
                    slice=key,
                    examples=evaluation.class_examples.get(of) if of and not key else evaluation.examples.get(key),
                    candidate=value,
                    production=(evaluation.production or {}).get(key, {}).get(full_name),
                    bound=findings.get((full_name, subject)),
                    change=findings.get((full_name + AGAINST_PRODUCTION, subject)),
                    difference=evaluation.differences.get(key, {}).get(full_name),
                    alpha=alpha,
                )
            )
    return metrics


def _by_class(metrics: list[Metric], names: list[str], evaluation: Evaluation | None) -> list[ClassMetrics]:
    """Return the overall metrics of each class: the most frequent classes first, then by name."""
    examples = evaluation.class_examples if evaluation else {}
    by_class: dict[str, dict[str, Metric]] = {}
    for metric in metrics:
        if not metric.slice:
            by_class.setdefault(metric.of, {})[metric.name] = metric
    return [
        ClassMetrics(name, examples.get(name), [by_class[name].get(metric) for metric in names])
        for name in sorted(by_class, key=lambda name: (-examples.get(name, 0), name))
    ]


def _split(name: str) -> tuple[str, str]:
    """Return a metric's name and its class; the class is "" for a metric of all classes."""
    metric, _, of = name.partition(":")
    return metric, of


def measured(value: float | None) -> str:
    """Return the text of a metric's value; four decimals, and fewer of larger numbers."""
    return "–" if value is None else plain(value, _digits(value))


def reach(difference: Difference, alpha: float) -> float:
    """Return how far an interval reaches to each side, which the true value is beyond with probability `alpha`.

    Student's t, by the first terms of its expansion around the normal distribution.
    """
    z = NormalDist().inv_cdf(1 - alpha)
    freedom = max(float(difference.freedom or difference.examples - 1), 1.0)
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom * freedom)
    return t * difference.error


def plain(value: float, digits: int) -> str:
    """Return a number with these decimals, or with two digits if it would be 0."""
    if not math.isfinite(value):
        return str(value)
    if value and abs(value) < 0.5 * 10.0**-digits:
        return f"{value:.2g}"
    return f"{value:.3g}" if abs(value) >= 1e9 else f"{value:,.{digits}f}"


def signed(value: float, digits: int) -> str:
    return plain(value, digits) if value < 0 or not math.isfinite(value) else f"+{plain(value, digits)}"


def _digits(value: float) -> int:
    if not math.isfinite(value) or abs(value) < 10:
        return 4
    return max(0, 4 - math.floor(math.log10(abs(value))))


def _alpha(details: NightDetails) -> float:
    known = details.thresholds.values.get("model_gate.alpha") if details.thresholds else None
    return known if isinstance(known, float) else ALPHA


def _lower_is_better(reason: Reason) -> bool:
    return (reason.bound or older_findings.bound(reason)) in ("ceiling", "rise")


def _bound(number: float) -> str:
    return f"{number:.2f}" if round(number, 2) == number else f"{number:g}"


def _met(reason: Reason) -> str:
    if reason.undecided:
        return ": cannot tell" + (f" on {reason.sample:,} examples" if reason.sample else "")
    return " ✕" if reason.held else " –" if reason.figure is None else " ✓"
