"""One look at a canary: what it and the version in production answered, against the labels that are known by now."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd

from nightly.canary import sequential
from nightly.canary.labels import brier, later_labels
from nightly.canary.predictions import logged
from nightly.io.paths import Paths
from nightly.records.canary import Decision, Look, Side
from nightly.records.config import CanaryConfig, ModelConfig
from nightly.records.golden import GOLDEN, Golden
from nightly.records.release import ReleaseRecord


def look(paths: Paths, config: ModelConfig, record: ReleaseRecord, now: dt.datetime, run_id: str = "") -> Look:
    """Compare the canary `record` with the version that was in production when it came, and say what follows from it.

    Reads only. Raises DamagedLogError and FeedbackError.
    """
    asked = config.release.canary or CanaryConfig()  # the section was taken out, and the canary is still there
    output = Golden.load(Path(record.path) / GOLDEN).output
    since = record.canary_since
    rows, left_out = logged(paths.predictions / config.name, since, record.previous_version, record.version, output)
    with_labels = config.model_copy(update={"release": config.release.model_copy(update={"canary": asked})})
    labels, given = later_labels(paths, with_labels, since, pd.Index(rows["id"]))
    rows = rows.assign(loss=brier(rows["probability"].astype(float), rows["id"].map(labels).astype(float)))
    known = rows["caller"].notna()
    rows["caller"] = rows["caller"].where(known, rows["id"])  # each prediction a caller of its own
    stable, canary = rows[~rows["canary"].astype(bool)], rows[rows["canary"].astype(bool)]
    sides = {
        "stable": _side(record.previous_version, stable),
        "canary": _side(record.version, canary),
    }
    difference = low = high = None
    if all(side.labelled for side in sides.values()):
        (loss, variance), (usual, usual_variance) = _measured(canary), _measured(stable)
        difference = float(loss - usual)
        low, high = map(
            float,
            sequential.interval(difference, variance + usual_variance, alpha=asked.alpha, scale=asked.margin),
        )
    share = record.canary_share
    warnings, mismatch = [], ""
    if len(rows) and not known.all():
        warnings.append(
            f"{(~known).sum():,} predictions were logged without a caller and are taken as independent of each other, "
            "which makes the interval too narrow where callers ask often; and whether the callers were divided as "
            "configured is not measured. Give PredictionLog a key, and predict() a caller"
        )
    elif sequential.share_evidence(sides["canary"].callers, sides["stable"].callers, share) >= 1 / (
        sequential.MISMATCH_ALPHA
    ):
        all_callers = sides["canary"].callers + sides["stable"].callers
        mismatch = (
            f"{sides['canary'].callers / all_callers:.1%} of {all_callers:,} callers got the canary, and {share:.1%} "
            "should have: clients have another share, or one side's predictions are lost, so the two cannot be compared"
        )
        warnings.append(mismatch)
    days = (now - since).total_seconds() / 86_400
    decision, reason = decided(asked, sides["stable"], sides["canary"], difference, low, high, mismatch, days)
    return Look(
        at=now,
        run_id=run_id,
        **sides,
        difference=difference,
        low=low,
        high=high,
        alpha=asked.alpha,
        margin=asked.margin,
        labels=given,
        left_out=left_out,
        warnings=warnings,
        decision=decision,
        reason=reason,
    )


def decided(
    asked: CanaryConfig,
    stable: Side,
    canary: Side,
    difference: float | None,
    low: float | None,
    high: float | None,
    mismatch: str,
    days: float,
) -> tuple[Decision, str]:
    """What follows from the figures, and why, in one sentence.

    Promoted as soon as it is surely less than the margin worse, stopped as soon as it is surely worse: once the
    interval is narrower than the margin, one of the two is the case, so with labels enough every comparison ends.
    """
    for side, name in ((canary, "the canary"), (stable, "the version in production")):
        if side.labelled < asked.min_labelled:
            why = f"{side.labelled:,} predictions of {name} have a label, and {asked.min_labelled:,} are needed"
            break
        if side.callers < sequential.MIN_CALLERS:
            why = f"{side.callers:,} callers asked {name}, and {sequential.MIN_CALLERS} are needed"
            break
    else:
        said = f"its loss is {difference:+.4f} beside production's ({low:+.4f} to {high:+.4f})"
        if mismatch:
            why = mismatch
        elif high < asked.margin:
            surely = "surely better" if high < 0 else f"surely not {asked.margin:g} worse, which would matter"
            return "promote", f"the canary is {surely}: {said}"
        elif low > 0:
            return "stop", f"the canary is surely worse: {said}"
        else:
            why = f"it is not clear yet: {said}; {asked.margin:g} worse would matter"
    if days < asked.max_days:
        return "wait", f"{why}; day {days:.1f} of {asked.max_days}"
    end: Decision = "stop" if mismatch else asked.undecided
    return end, f"after {days:.1f} of {asked.max_days} days still undecided ({why}): {end}, as configured"


def _side(version: int, rows: pd.DataFrame) -> Side:
    losses = rows["loss"].dropna()
    return Side(
        version=version,
        logged=len(rows),
        labelled=len(losses),
        callers=rows["caller"].nunique(),
        loss=float(losses.mean()) if len(losses) else None,
    )


def _measured(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    labelled = rows.dropna(subset="loss")
    callers, _ = pd.factorize(labelled["caller"])
    return sequential.mean_and_variance(*sequential.by_caller(labelled["loss"].to_numpy(), callers))
