"""Commands that a person can copy after a night that did not release."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, TypeGuard

from nightly.io.secrets import MASK
from nightly.models import load_config
from nightly.nights.causes import Cause
from nightly.records.base import ContractError
from nightly.records.night import ALL_EXAMPLES, CONSTANT, Night, Reason
from nightly.records.schema import SchemaProposal
from nightly.records.thresholds import ThresholdsUsed, Value


@dataclass(frozen=True)
class Remedy:
    """A command to run, and when to run it."""

    when: str
    command: str


@dataclass(frozen=True)
class Request:
    """The parts of a run that are needed to start the same night again.

    :ivar params: the run's other parameters, by the keys of a run's form
    :ivar source: the path or URL that was read in place of the config's; only bin/night takes one
    """

    model: str
    run_id: str
    as_of: dt.datetime | None
    release: bool
    by_command: bool = False  # started by bin/night, not by Airflow
    params: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def of(cls, night: Night) -> Request:
        """Return the request of a planned night. What the model's config gives is left out of `params`."""
        params: dict[str, Any] = {"fresh": True} if night.fresh else {}
        if night.overrides:
            params |= {"thresholds": night.overrides, "reason": night.override_reason}
        with contextlib.suppress(ContractError):  # the model's config is gone, or is not valid any more
            config = load_config(night.model)
            if night.train_steps != config.training.steps:
                params["train_steps"] = night.train_steps
            days = (night.as_of - night.window_start).days - config.data.late_days
            if days != config.data.look_back_days and days > 0:
                params["look_back_days"] = days
        return cls(
            night.model,
            night.run_id,
            night.as_of,
            release=night.release,
            by_command=night.trigger == "command",
            params=params,
            source=night.source_address,
        )

    def again(self) -> str:
        """Return the command that runs the night again, as of the same time."""
        if not self.by_command:
            return self._trigger(self.params)
        args = ["bin/night", self.model, *(["--as-of", self._as_of] if self._as_of else [])]
        args += ["--train-steps", str(self.params["train_steps"])] if "train_steps" in self.params else []
        args += ["--fresh"] if self.params.get("fresh") else []
        address, query, _ = self.source.partition("?") if "://" in self.source else (self.source, "", "")
        args += ["--source", f"{address}?{MASK}" if query else address] if address else []  # a query may be a signature
        return shlex.join([*args, *(["--release"] if self.release else [])])

    def with_thresholds(self, lifted: Mapping[str, Value]) -> str:
        """Return the command that runs the night again with these thresholds, besides those that it replaced."""
        reason = "; ".join(filter(None, [self.params.get("reason"), "WHY"]))
        thresholds = {**self.params.get("thresholds", {}), **lifted}
        return self._trigger({**self.params, "thresholds": thresholds, "reason": reason})

    @property
    def _as_of(self) -> str:
        return self.as_of.isoformat() if self.as_of else ""

    def _trigger(self, params: Mapping[str, Any]) -> str:
        conf = {"as_of": self._as_of} if self._as_of else {}
        conf |= {} if self.release else {"release": "no"}
        return shlex.join(
            ["bin/airflow", "dags", "trigger", f"{self.model}_retrain", "--conf", json.dumps({**conf, **params})]
        )


def remedies(
    request: Request, causes: list[Cause], used: ThresholdsUsed | None, proposal: SchemaProposal | None
) -> list[Remedy]:
    """Return what to run after a held night, if its data was wrong and if it was right.

    Nothing for a withdrawn model: the same night would train the same model, and be held again.
    """
    kinds = {cause.kind for cause in causes}
    if "withdrawn" in kinds:
        return []
    held = [reason for cause in causes for reason in cause.reasons]
    by_schema = [reason for reason in held if reason.check == "schema"]
    steps = []
    if by_schema and proposal is not None:
        approve = ["bin/schema", "approve", request.model, request.run_id, "--reason"]
        steps.append(f"{shlex.join(approve)} WHY")
    if not by_schema or proposal is not None:
        thresholds = lifting(held, used)
        if thresholds and not request.source:  # a run's form has no source, and bin/night no thresholds
            steps.append(request.with_thresholds(thresholds))
        elif thresholds == {} and steps:
            steps.append(request.again())
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
            if used and not any(name.startswith("model_gate.metrics.") for name in used.values):
                return None  # a gate that judges nothing is refused
            lifted["model_gate.must_beat_constant"] = False
            continue
        if reason.undecided:
            lifted["model_gate.undecided"] = "release"
            continue
        key = _key(reason, used)
        base = used.values.get(key) if used and key else None
        if used is None or not (_is_number(base) and _is_number(reason.figure) and _is_number(reason.threshold)):
            return None
        lowers = key.startswith("data_gate.min_") or (key.startswith("model_gate.") and key.endswith(".floor"))
        value = _outwards(_least(reason, key, base, used), lowers=lowers)
        if isinstance(base, int) and value.is_integer():
            value = int(value)  # a threshold of a count takes no other number
        lifted[key] = (min if lowers else max)(lifted.get(key, value), value)
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


def _least(reason: Reason, key: str, base: float, used: ThresholdsUsed) -> Decimal:
    """Return the threshold that would have been just enough for the finding."""
    figure = Decimal(str(reason.figure))
    if key.startswith("model_gate."):
        return abs(figure) if reason.is_change else figure
    # The finding's threshold is `base` times the factor of its control. It may be larger where chance allows more.
    # Lost classes have no factor; records of older versions name a control with them.
    ratio = reason.threshold / base if base and _is_number(reason.threshold) else None
    factors = (used.values.get(f"data_gate.controls.{reason.control}"), ratio)
    return figure / Decimal(str(min((factor for factor in factors if _is_number(factor) and factor > 0), default=1)))


def _outwards(number: Decimal, *, lowers: bool) -> float:
    """Return the number, rounded to two digits: down if a lower threshold lifts, else up."""
    digits = Decimal(1).scaleb(number.adjusted() - 1)
    return float(number.quantize(digits, ROUND_FLOOR if lowers else ROUND_CEILING))


def _is_number(value: float | str | None) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
