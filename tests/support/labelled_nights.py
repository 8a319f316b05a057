"""Nights of each kind of label on disk, as the gates and the evaluator write them."""

import math

from nightly.io.paths import Paths
from nightly.records.distributions import Distributions, FeatureDistribution, Histogram, ValueShare
from nightly.records.evaluation import CalibrationBin, Charts, Difference, Evaluation
from nightly.records.evaluation import Histogram as Residuals
from nightly.records.label_config import BinaryLabel, ClassesLabel, NumberLabel
from nightly.records.label_spec import NEGATIVE, OTHER, POSITIVE, LabelSummary
from nightly.records.labels import ControlLabels, Labels
from nightly.records.night import AGAINST_PRODUCTION, CONSTANT, GateResult, Reason
from nightly.records.verdict import Outcome, Verdict
from tests.support.written_nights import EVIL, FIRST, reason, write_night

EXAMPLES = 1204
CLASSES = ["Cash", "Credit card", EVIL, "Prepaid", OTHER]
MATRIX = [[620, 30, 2, 0, 1], [41, 380, 3, 1, 0], [12, 9, 25, 0, 1], [8, 4, 0, 12, 0], [20, 25, 2, 1, 7]]


def write_labelled_night(
    paths: Paths, day: int, kind: str, outcome: Outcome = Outcome.RELEASED, held: Reason | None = None
) -> str:
    """Write a night of taxi whose label is of this kind; return its folder's name.

    :param held: a finding of the model gate that held the night
    """
    name = write_night(paths, day, outcome)
    folder = paths.nights / "taxi" / name
    labels(kind, day).save(folder / Labels.FILE)
    distributions = Distributions.load(folder / Distributions.FILE)
    distributions.model_copy(update={"features": [*distributions.features, distribution(kind)]}).save(
        folder / Distributions.FILE
    )
    evaluation(kind).save(folder / "evaluation.json")
    gate = GateResult.load(folder / "data_gate.json")
    change = label_change(0.01 + day / 500)
    gate.model_copy(update={"reasons": [*gate.reasons, change]}).save(folder / "data_gate.json")
    judged = [*findings(kind), *([held] if held else [])]
    GateResult(gate="model", passed=not held, reasons=judged, decided_at=FIRST).save(folder / "model_gate.json")
    verdict = Verdict.load(folder / "verdict.json")
    verdict.model_copy(update={"reasons": [*verdict.reasons, change, *judged]}).save(folder / "verdict.json")
    return name


def label_change(figure: float, held: bool = False) -> Reason:
    return reason(
        check="max_label_change",
        subject="target",
        figure=figure,
        threshold=0.05,
        held=held,
        control="last_accepted",
        message=f"target changed by {figure:.1%}",
    )


def distribution(kind: str) -> FeatureDistribution:
    """Return the distribution of the label's column, in the train split."""
    values, histogram = [], None
    if kind == "number":
        edges = [2.0, 5.0, 10.0, 15.0, 20.0, 60.0]
        histogram = Histogram(edges=edges, current=[0.2, 0.3, 0.2, 0.1, 0.2], control=[0.2, 0.25, 0.25, 0.1, 0.2])
    else:
        values = [ValueShare(value=value, current=0.3, control=0.4) for value in ("no", "yes", EVIL)]
    return FeatureDistribution(
        name="target",
        type="FLOAT" if histogram else "STRING",
        missing_current=0.0,
        missing_control=0.0,
        values=values,
        histogram=histogram,
    )


def labels(kind: str, day: int) -> Labels:
    """Return the labels of a night, and of two controls."""
    if kind == "binary":
        label = BinaryLabel(column="target", positive=["yes", EVIL])
        sides = [LabelSummary.of_counts({POSITIVE: n, NEGATIVE: 4000 - n}) for n in (900 + 10 * day, 880, 600)]
    elif kind == "classes":
        label = ClassesLabel(column="target", classes="learned")
        sides = [
            LabelSummary.of_counts({"Cash": n, "Credit card": 1700, EVIL: 190, "Prepaid": 90, **rare})
            for n, rare in ((2000, {f"rare {i}": 3 for i in range(12)}), (2100, {"rare 1": 20}), (2500, {}))
        ]
    else:
        label = NumberLabel(column="target", transform="log1p")
        quantiles = [2.5 * math.exp(0.03 * level) for level in range(101)]
        sides = [
            LabelSummary(rows=4000, quantiles=[value * factor for value in quantiles])
            for factor in (1 + day / 50, 1, 1.3)
        ]
    titles = ("the last accepted snapshot (2016-02-29)", "the snapshot of the model in production (2016-02-01)")
    names = ("last_accepted", "production")
    controls = [
        ControlLabels(name=name, title=title, labels=side, classes=len(side.counts))
        for name, title, side in zip(names, titles, sides[1:], strict=True)
    ]
    return Labels(label=label, rows=4100, now=sides[0], classes=len(sides[0].counts), controls=controls)


def evaluation(kind: str) -> Evaluation:
    """Return a night's evaluation beside production's."""
    candidate, production = METRICS[kind], {name: value * 0.98 for name, value in METRICS[kind].items()}
    differences = {
        name: Difference(value=value - production[name], error=abs(value) * 0.008, examples=EXAMPLES)
        for name, value in candidate.items()
    }
    slice_name = f"state={EVIL}"
    return Evaluation(
        examples={"": EXAMPLES, slice_name: 300},
        candidate={"": candidate, slice_name: candidate},
        production={"": production, slice_name: production},
        production_version=1456700000,
        differences={"": differences},
        better_than_constant=Difference(value=0.0812, error=0.002, examples=EXAMPLES),
        constant_loss=LOSSES[kind],
        class_examples=dict(zip(CLASSES, map(sum, MATRIX), strict=True)) if kind == "classes" else {},
        charts={"candidate": charts(kind, 1.0), "production": charts(kind, 1.2)},
    )


METRICS = {
    "binary": {"auc": 0.941, "binary_crossentropy": 0.3127, "calibration": 1.02, "precision": 0.71},
    "classes": {
        "accuracy": 0.8671,
        "categorical_crossentropy": 0.412,
        "macro_f1_score": 0.62,
        **{f"recall:{name}": value for name, value in zip(CLASSES, (0.95, 0.89, 0.53, 0.5, 0.127), strict=True)},
        **{f"precision:{name}": value for name, value in zip(CLASSES, (0.88, 0.85, 0.78, 0.86, 0.78), strict=True)},
    },
    "number": {"mean_absolute_error": 2.113, "root_mean_squared_error": 14.81, "r_squared": 0.71, "mean_label": 11.2},
}
LOSSES = {"binary": "Brier score", "classes": "Brier score", "number": "squared error of log(1 + label)"}
JUDGED = {  # metric, the sign of better, the fixed bound, the change that is allowed
    "binary": ("auc", 1, 0.6, 0.02),
    "classes": ("accuracy", 1, 0.7, 0.02),
    "number": ("mean_absolute_error", -1, 3.0, 0.05),
}


def findings(kind: str) -> list[Reason]:
    """Return the model gate's: a bound that is met, and a change that 1,204 examples cannot tell."""
    metric, sign, bound, allowed = JUDGED[kind]
    value = METRICS[kind][metric]
    return [
        reason(
            check=metric,
            subject="all examples",
            figure=value,
            threshold=bound,
            message=f"{metric} is {value}; {'at least' if sign > 0 else 'at most'} {bound:g} is required",
        ),
        reason(
            check=metric + AGAINST_PRODUCTION,
            subject="all examples",
            figure=value * 0.02,
            threshold=-sign * allowed,
            message=f"{metric} is {value:.4f}, and {value * 0.98:.4f} in production: better by {value * 0.02:.4f}; "
            f"{allowed:g} worse is allowed; {EXAMPLES:,} examples cannot tell",
            severity="warning",
            undecided=True,
            sample=EXAMPLES,
        ),
        reason(
            check=CONSTANT,
            subject="all examples",
            figure=0.0812,
            threshold=0.0,
            message="the model is better by 0.0812 than the best constant answer, in the Brier score",
            sample=EXAMPLES,
        ),
    ]


def charts(kind: str, off: float) -> Charts:
    """Return a model's charts; `off` is how far it is off, 1 for the better model."""
    if kind == "classes":
        matrix = [[round(count * (off if row != column else 1)) for column, count in enumerate(counts)]
                  for row, counts in enumerate(MATRIX)]  # fmt: skip
        return Charts(classes=CLASSES, confusion=matrix)
    scale = 1.0 if kind == "binary" else 60.0
    calibration = [
        CalibrationBin(
            rows=120, predicted=scale * level**1.6, actual=scale * level ** (1.6 * off) * (1 + 0.05 * (tenth % 3 - 1))
        )
        for tenth in range(10)
        for level in ((tenth + 0.5) / 10,)
    ]
    if kind == "binary":
        wrong = [[820, round(60 * off)], [round(104 * off), 220]]
        return Charts(calibration=calibration, classes=["negative", "positive"], confusion=wrong, threshold=0.5)
    edges = [off * edge for edge in range(-20, 21)]
    rows = [round(90 * math.exp(-((edge + 0.5) ** 2) / 60)) for edge in range(-20, 20)]
    return Charts(calibration=calibration, residuals=Residuals(edges=edges, rows=rows))
