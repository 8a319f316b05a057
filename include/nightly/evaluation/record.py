"""The evaluation of a candidate, beside production: the record that the gate judges and the page shows."""

from collections.abc import Iterator

import numpy as np

from nightly.evaluation.charts import charts
from nightly.evaluation.constant import better_than_constant, loss_name
from nightly.evaluation.differences import paired_differences
from nightly.evaluation.measured import Measured, SliceKey
from nightly.records.evaluation import Evaluation
from nightly.records.label_config import Kind
from nightly.records.label_spec import LabelSpec
from nightly.records.metrics import is_of_class

CANDIDATE, PRODUCTION = "candidate", "production"
COUNT = "example_count"  # always measured
BALANCE = "mean_label"  # binary: the share of positive examples; number: the mean
OF_BOTH_CLASSES = {"auc", "auc_precision_recall"}  # undefined if all examples are of one class

Values = dict[str, dict[SliceKey, dict[str, float]]]  # model -> slice -> metric -> value; NaN if not defined


def values_of(measured: Measured) -> Values:
    """Return every metric that has a formula, and the number of examples, of each model with finite answers."""
    return {
        model: {key: dict(_values(measured, model, key)) for key in measured.slices} for model in measured.sound.models
    }


def _values(measured: Measured, model: str, key: SliceKey) -> Iterator[tuple[str, float]]:
    sums = measured.slices[key]
    yield COUNT, float(sums.examples)
    for name, formula in measured.plan.formulas.items():
        if not (key and is_of_class(name)):
            yield name, formula.value(sums.vectors[model][formula.sums])


def evaluate(
    measured: Measured, values: Values, spec: LabelSpec, production_version: int | None, unmeasured: str = ""
) -> Evaluation:
    """Return the record of what was measured.

    :param spec: the candidate's
    :param production_version: None if nothing is in production
    """
    plan, sample = measured.plan, measured.sample()
    models, broken = measured.sound.models, measured.not_finite
    compared = {CANDIDATE, PRODUCTION} <= set(models)
    if PRODUCTION in broken:
        unmeasured = f"version {production_version} in production {broken[PRODUCTION].describe(measured.examples)}"
    differences = paired_differences(measured, sample, CANDIDATE, PRODUCTION) if compared else {}
    return Evaluation(
        examples={_name(key): sums.examples for key, sums in measured.slices.items()},
        candidate=_defined(values.get(CANDIDATE) or {key: {} for key in measured.slices}, plan.kind),
        production=_defined(values[PRODUCTION], plan.kind) if PRODUCTION in models else None,
        production_version=production_version,
        differences={_name(key): by_metric for key, by_metric in differences.items()},
        better_than_constant=(
            better_than_constant(sample, CANDIDATE, spec, measured.examples) if CANDIDATE in models else None
        ),
        constant_loss=loss_name(spec) if spec.constant else "",
        charts={model: charts(sample, model, plan.kind, plan.classes) for model in models},
        class_examples=dict(zip(plan.classes, map(int, np.atleast_1d(measured.class_examples)), strict=False)),
        unmeasured=unmeasured,
        not_finite=broken.get(CANDIDATE),
    )


def _defined(values: dict[SliceKey, dict[str, float]], kind: Kind) -> dict[str, dict[str, float]]:
    """Return slice -> metric -> value, without those that are not defined."""
    defined = {}
    for key, by_metric in values.items():
        one_class = kind == "binary" and by_metric.get(BALANCE) in (0, 1)  # TFMA reports what is undefined as 0
        left_out = {COUNT} | (OF_BOTH_CLASSES if one_class else set())
        defined[_name(key)] = {k: v for k, v in sorted(by_metric.items()) if k not in left_out and np.isfinite(v)}
    return defined


def _name(key: SliceKey) -> str:
    """Return column=value, or OVERALL for the whole split."""
    return "".join(f"{column}={value}" for column, value in key)
