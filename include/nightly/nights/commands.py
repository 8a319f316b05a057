"""Commands that a person can copy after a night that did not release."""

from __future__ import annotations

import datetime as dt
import json
import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nightly.nights.causes import Cause
from nightly.records.night import ALL_EXAMPLES, CONSTANT, Reason
from nightly.records.schema import SchemaProposal
from nightly.records.thresholds import ThresholdsUsed, Value


@dataclass(frozen=True)
class Remedy:
    """A command to run, and when to run it."""

    when: str
    command: str


@dataclass(frozen=True)
class Request:
    """The parts of a run that are needed to start the same night again."""

    model: str
    run_id: str
    as_of: dt.datetime | None
    release: bool
    by_command: bool = False  # started by bin/night, not by Airflow

    def again(self, **more: Any) -> str:
        """Return the command that runs the night again, as of the same time; `more` is added to the run's conf."""
        as_of = self.as_of.isoformat() if self.as_of else ""
        if self.by_command and not more:
            args = ["bin/night", self.model, *(["--as-of", as_of] if as_of else [])]
            return shlex.join([*args, *(["--release"] if self.release else [])])
        conf = {"as_of": as_of} if as_of else {}
        conf |= {} if self.release else {"release": "no"}
        return shlex.join(
            ["bin/airflow", "dags", "trigger", f"{self.model}_retrain", "--conf", json.dumps(conf | more)]
        )


def remedies(
    request: Request, causes: list[Cause], used: ThresholdsUsed | None, proposal: SchemaProposal | None
) -> list[Remedy]:
    """Return what to run after a held night, if its data was wrong and if it was right."""
    kinds = {cause.kind for cause in causes}
    if "withdrawn" in kinds:
        return [Remedy("To train again on the same data", request.again(fresh=True))]
    held = [reason for cause in causes for reason in cause.reasons]
    by_schema = [reason for reason in held if reason.check == "schema"]
    steps = []
    if by_schema and proposal is not None:
        approve = ["bin/schema", "approve", request.model, request.run_id, "--reason"]
        steps.append(f"{shlex.join(approve)} WHY")
    if not by_schema or proposal is not None:
        thresholds = lifting(held, used)
        if thresholds is not None and (thresholds or steps):
            steps.append(request.again(**({"thresholds": thresholds, "reason": "WHY"} if thresholds else {})))
    when = "To release it nevertheless, once" if kinds == {"model"} else "If the data is right, to accept it once"
    right = [Remedy(when, "\n".join(steps))] if steps else []
    wrong = [] if kinds == {"model"} else [Remedy("If the data was wrong, once the source is fixed", request.again())]
    return [*wrong, *right]


def lifting(held: Iterable[Reason], used: ThresholdsUsed | None) -> dict[str, Value] | None:
    """Return the thresholds under which these findings would not have held, by the keys of a run's form.

    None if a finding has no threshold that a run can replace. Schema anomalies are ignored: a change of the schema
    lifts them.
    """
    lifted: dict[str, Value] = {}
    for reason in held:
        if reason.check == "schema":
            continue
        if reason.check == CONSTANT:
            lifted["model_gate.must_beat_constant"] = False
            continue
        if reason.undecided:
            lifted["model_gate.undecided"] = "release"
            continue
        key = _key(reason, used)
        base = used.values.get(key) if used and key else None
        if not all(isinstance(number, (int, float)) for number in (base, reason.figure, reason.threshold)):
            return None
        value = _lifted(reason, float(base), lower=key.endswith(".floor") or ".min_" in key)
        value = int(value) if isinstance(base, int) else value
        beyond = min if key.endswith(".floor") or ".min_" in key else max
        lifted[key] = beyond(lifted.get(key, value), value)
    return lifted


def _key(reason: Reason, used: ThresholdsUsed | None) -> str:
    """Return the key of the threshold that the finding broke; "" if no threshold has that name."""
    values = used.values if used else {}
    metric, _, of = reason.metric.partition(":")
    section = "class_metrics" if of else "metrics" if reason.subject == ALL_EXAMPLES else "slice_metrics"
    bounds = ("max_drop", "max_rise") if reason.is_change else ("floor", "ceiling")
    names = [f"data_gate.{reason.check}", f"{reason.check}.{reason.subject}"]
    names += [f"model_gate.{section}.{metric}.{bound}" for bound in bounds]
    return next((name for name in names if name in values), "")


def _lifted(reason: Reason, base: float, *, lower: bool) -> float:
    """Return `base`, moved as far as the finding is beyond its threshold and rounded outwards to two digits."""
    if not base or not reason.threshold or not reason.figure:
        return abs(reason.figure)
    value = base * abs(reason.figure / reason.threshold)  # the threshold may include a control's factor
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    digits = (math.floor if lower else math.ceil)(round(value / step, 6))
    return float(f"{digits * step:.6g}")
