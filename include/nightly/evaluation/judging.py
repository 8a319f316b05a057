"""The model gate's rule: fixed bounds, the change against production, and the constant answer.

Two models differ by chance on any examples. So a model is held for a change only if it is surely worse than allowed,
and passes if it surely is not. Otherwise the examples cannot tell, and `undecided` decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtrit

from nightly.records.config import Bound, ModelConfig, ModelGate
from nightly.records.evaluation import OVERALL, Difference, Evaluation, NotFinite
from nightly.records.metrics import of_class
from nightly.records.night import AGAINST_PRODUCTION, ALL_EXAMPLES, CONSTANT, Reason

NO_PRODUCTION = "no model is in production yet"
FINITE = "finite_answers"  # the check's name

Decision = Literal["worse", "within", "undecided"]


@dataclass(frozen=True)
class Interval:
    """How much worse a model is, as far as chance lets one know. Each bound is wrong with probability alpha."""

    low: float
    high: float

    @classmethod
    def of(cls, worse: float, difference: Difference, alpha: float) -> "Interval":
        freedom = difference.freedom or difference.examples - 1
        reach = difference.error * float(stdtrit(freedom, 1 - alpha))
        return cls(worse - reach, worse + reach)

    def decide(self, allowed: float) -> Decision:
        """Return whether something is surely more than `allowed`, surely not, or neither."""
        if self.low > allowed:
            return "worse"
        return "within" if self.high <= allowed else "undecided"


@dataclass(frozen=True)
class Judged:
    """A metric of a slice, and its bound."""

    metric: str  # as in the evaluation
    bound: Bound
    key: str  # the slice in the evaluation
    part: str  # the slice or class in a message; "" for all examples
    examples: int

    @property
    def where(self) -> str:
        metric = self.metric.partition(":")[0]
        return f"{metric} of {self.part}" if self.part else metric

    @property
    def subject(self) -> str:
        return self.key or ALL_EXAMPLES

    @property
    def fixed(self) -> float | None:
        return self.bound.floor if self.bound.floor is not None else self.bound.ceiling

    @property
    def fixed_bound(self) -> Literal["", "floor", "ceiling"]:
        return "floor" if self.bound.floor is not None else "ceiling" if self.bound.ceiling is not None else ""

    @property
    def allowed(self) -> float | None:
        return self.bound.max_drop if self.bound.max_drop is not None else self.bound.max_rise

    def difference(self, measured: Evaluation) -> Difference | None:
        return measured.differences.get(self.key, {}).get(self.metric)


def judge(config: ModelConfig, measured: Evaluation, unjudged: str = NO_PRODUCTION) -> Iterator[Reason]:
    """Yield a finding for each bound of the config.

    `alpha` is the probability of holding a model that is no worse than allowed, over all comparisons together: half of
    it for all examples, half for the slices and classes (all of it if there are none), each half divided evenly
    (Bonferroni). Holm's procedure would hold a little more, but then a finding's interval would depend on the other
    findings, and could not be read alone.

    :param unjudged: why there is no production model to compare with, if there is none
    """
    if measured.not_finite:
        yield _not_finite(measured.not_finite, measured.examples[OVERALL])
        return
    gate = config.model_gate
    whole, parts = _whole(gate, measured), [*_slices(gate, measured), *_classes(gate, measured)]
    judges_constant = gate.must_beat_constant and measured.better_than_constant is not None
    compared = sum(_is_compared(item, measured) for item in whole) + judges_constant
    compared_parts = sum(_is_compared(item, measured) for item in parts)
    shares = {
        True: gate.alpha / (2 if compared_parts else 1) / max(compared, 1),
        False: gate.alpha / (2 if compared else 1) / max(compared_parts, 1),
    }
    for items in (whole, parts):
        for item in items:
            yield from _judge(item, measured, shares[items is whole], gate.undecided)
    if gate.must_beat_constant:
        yield _beats_constant(measured, shares[True])
    if measured.production is None and any(item.allowed is not None for item in (*whole, *_bounds_of_parts(gate))):
        yield Reason(
            check="change",
            subject="",
            figure=None,
            threshold=None,
            held=False,
            message=f"the change against production was not judged: {measured.unmeasured or unjudged}",
        )


def _not_finite(bad: NotFinite, examples: int) -> Reason:
    return Reason(
        check=FINITE,
        subject=ALL_EXAMPLES,
        figure=bad.examples,
        threshold=0,
        held=True,
        message=f"the model {bad.describe(examples)}",
        action="Look at the training log, and at the inputs of that example. The exponential that undoes log1p is "
        "infinite above 88.7.",
        severity="error",
        sample=examples,
    )


def _whole(gate: ModelGate, measured: Evaluation) -> list[Judged]:
    count = measured.examples[OVERALL]
    return [Judged(metric, bound, OVERALL, "", count) for metric, bound in gate.metrics.items()]


def _slices(gate: ModelGate, measured: Evaluation) -> list[Judged]:
    return [
        Judged(metric, bound, key, key, count)
        for key, count in sorted(measured.examples.items())
        if key != OVERALL and count >= gate.min_slice_rows
        for metric, bound in gate.slice_metrics.items()
    ]


def _classes(gate: ModelGate, measured: Evaluation) -> list[Judged]:
    return [
        Judged(of_class(metric, name), bound, OVERALL, f"class {name}", count)
        for name, count in measured.class_examples.items()
        if count >= gate.min_slice_rows
        for metric, bound in gate.class_metrics.items()
    ]


def _bounds_of_parts(gate: ModelGate) -> list[Judged]:
    """Return the bounds of slices and classes, whether or not any has enough examples."""
    bounds = (*gate.slice_metrics.items(), *gate.class_metrics.items())
    return [Judged(metric, bound, "", "", 0) for metric, bound in bounds]


def _is_compared(item: Judged, measured: Evaluation) -> bool:
    return item.allowed is not None and item.difference(measured) is not None


def _judge(item: Judged, measured: Evaluation, alpha: float, undecided: str) -> Iterator[Reason]:
    figure = measured.candidate[item.key].get(item.metric)
    if figure is None or figure != figure:  # e.g. AUC where only one class is present
        yield Reason(
            check=item.metric,
            subject=item.subject,
            figure=None,
            threshold=item.fixed,
            bound=item.fixed_bound,
            held=not item.part,
            message=f"{item.where} could not be computed on {item.examples:,} examples",
        )
        return
    if item.fixed is not None:
        yield _fixed(item, figure)
    production = (measured.production or {}).get(item.key, {}).get(item.metric, float("nan"))
    if item.allowed is not None and production == production:
        yield _change(item, figure, production, item.difference(measured), alpha, undecided)


def _fixed(item: Judged, figure: float) -> Reason:
    """Return the finding of a floor or a ceiling."""
    fixed, is_floor = item.fixed, item.fixed_bound == "floor"
    return Reason(
        check=item.metric,
        subject=item.subject,
        figure=round(figure, 5),
        threshold=fixed,
        bound=item.fixed_bound,
        held=figure < fixed if is_floor else figure > fixed,
        message=f"{item.where} is {figure:.4f}; at {'least' if is_floor else 'most'} {fixed:g} is required",
        action="The model learned too little: look at the training log, the label's share and the steps.",
    )


def _change(
    item: Judged, figure: float, production: float, difference: Difference | None, alpha: float, undecided: str
) -> Reason:
    """Return the finding of a change against production."""
    drops = item.bound.max_drop is not None
    worse = production - figure if drops else figure - production
    message = f"{item.where} is {figure:.4f}, and {production:.4f} in production: {_worse(worse)}"
    if difference is None:
        decision: Decision = "worse" if worse > item.allowed else "within"
        remark = "; its standard error is not known, so chance is not considered"
        chance = None
    else:
        interval = Interval.of(worse, difference, alpha)
        decision, chance = interval.decide(item.allowed), round(interval.high - worse, 5)
        message += f" (with chance, {_range(interval)})"
        remark = f"; {difference.examples:,} examples cannot tell" if decision == "undecided" else ""
    held = decision == "worse" or (decision == "undecided" and undecided == "hold")
    return Reason(
        check=item.metric + AGAINST_PRODUCTION,
        subject=item.subject,
        figure=round(figure - production, 5),
        threshold=-item.allowed if drops else item.allowed,
        bound="drop" if drops else "rise",
        held=held,
        message=f"{message}; {item.allowed:g} worse is allowed{remark}",
        action=_action(decision, "The model in production is better on the same examples: it stays."),
        severity=_severity(decision, held),
        undecided=decision == "undecided",
        chance=chance,
        sample=None if difference is None else difference.examples,
    )


def _beats_constant(measured: Evaluation, alpha: float) -> Reason:
    """Return whether the model is surely better than the best constant answer of its training split."""
    gain = measured.better_than_constant
    if gain is None and measured.constant_loss:
        return Reason(
            check=CONSTANT,
            subject=ALL_EXAMPLES,
            figure=None,
            threshold=0,
            held=True,
            severity="error",
            message="whether the model beats the best constant answer could not be computed on "
            f"{measured.examples[OVERALL]:,} examples: at least two with a weight above 0 are needed",
            action="Judge more examples: a longer window, a larger eval_percent, or weights that are not 0.",
        )
    if gain is None:
        return Reason(
            check=CONSTANT,
            subject=ALL_EXAMPLES,
            figure=None,
            threshold=None,
            held=False,
            severity="warning",
            message="whether the model beats the best constant answer was not judged: its assets.extra/label.json is "
            "missing, or names none",
        )
    interval = Interval.of(-gain.value, gain, alpha)
    # A model of the same loss is not better, so 0 itself is not allowed.
    decision: Decision = "worse" if interval.low >= 0 else "within" if interval.high < 0 else "undecided"
    held = decision != "within"
    message = (
        f"the model is {_worse(-gain.value)} in the {measured.constant_loss} than the best constant answer "
        f"(with chance, {_range(interval)}); surely better is required"
    )
    if decision == "undecided":
        message += f"; {gain.examples:,} examples cannot tell"
    return Reason(
        check=CONSTANT,
        subject=ALL_EXAMPLES,
        figure=round(gain.value, 5),
        threshold=0,
        held=held,
        message=message,
        action=_action(
            decision, "The model learned nothing that helps: look at the training log, the inputs and the label."
        ),
        severity=_severity(decision, held),
        undecided=decision == "undecided",
        chance=round(interval.high + gain.value, 5),
        sample=gain.examples,
    )


def _action(decision: Decision, if_worse: str) -> str:
    if decision == "undecided":
        return "Judge more examples (a longer window, a larger eval_percent), allow more, or set model_gate.undecided."
    return if_worse


def _severity(decision: Decision, held: bool) -> Literal["", "warning", "error"]:
    return "error" if held else "warning" if decision == "undecided" else ""


def _worse(worse: float) -> str:
    return f"{'worse' if worse > 0 else 'better'} by {abs(worse):.4f}"


def _range(interval: Interval) -> str:
    low, high = interval.low, interval.high
    if low > 0:
        return f"from {low:.4f} to {high:.4f} worse"
    if high <= 0:
        return f"from {-high:.4f} to {-low:.4f} better"
    return f"from {-low:.4f} better to {high:.4f} worse"
