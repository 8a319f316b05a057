"""One look at a canary: compare its predictions and production's with the labels that are known by now."""

import datetime as dt

import numpy as np
import pandas as pd

from nightly.canary import sequential
from nightly.canary.labels import later_labels
from nightly.canary.losses import IncomparableError, Loss, loss_between
from nightly.canary.predictions import Version, logged
from nightly.io.paths import Paths
from nightly.records.canary import Decision, Look, Side
from nightly.records.config import CanaryConfig, ModelConfig
from nightly.records.release import ReleaseRecord


def look(paths: Paths, config: ModelConfig, record: ReleaseRecord, now: dt.datetime, run_id: str = "") -> Look:
    """Compare the canary `record` with the version that was in production at its release, and decide what follows.

    Changes nothing. Raises DamagedLogError, FeedbackError, and ContractError for a label.json that cannot be read.
    """
    settings = config.release.canary or CanaryConfig()  # the section may have been removed while the canary is running
    config = config.model_copy(update={"release": config.release.model_copy(update={"canary": settings})})
    since, share = record.canary_since, record.canary_share
    days = (now - since).total_seconds() / 86_400
    stable, canary = (Version.of(paths, config, number) for number in (record.previous_version, record.version))
    common = {"at": now, "run_id": run_id, "alpha": settings.alpha, "margin": settings.margin}
    try:
        loss = loss_between(stable.spec, canary.spec)
    except IncomparableError as error:
        decision, reason = undecided(settings, str(error), days, comparable=False)
        sides = {name: _unseen(version) for name, version in (("stable", stable), ("canary", canary))}
        return Look(**common, **sides, loss="loss", labels={}, left_out={}, decision=decision, reason=reason)
    rows, label_counts, left_out = _with_losses(paths, config, since, stable, canary, loss)
    known = rows["caller"].notna()
    rows["caller"] = rows["caller"].where(known, rows["id"])  # without a caller, each prediction counts as its own
    of_canary = rows["canary"].astype(bool)
    sides = {"stable": _side(stable, rows[~of_canary]), "canary": _side(canary, rows[of_canary])}
    difference = low = high = None
    if all(side.labelled for side in sides.values()):
        difference, low, high = _difference(rows[of_canary], rows[~of_canary], settings)
    warnings, mismatch = list(loss.warnings), ""
    if len(rows) and not known.all():
        warnings.append(
            f"{(~known).sum():,} predictions were logged without a caller and are taken as independent of each other, "
            "which makes the interval too narrow where callers ask often; and whether the callers were divided as "
            "configured is not measured. Give PredictionLog a key, and predict() a caller"
        )
    elif mismatch := _mismatch(sides["canary"].callers, sides["stable"].callers, share):
        warnings.append(mismatch)
    decision, reason = decided(settings, sides["stable"], sides["canary"], difference, low, high, mismatch, days)
    return Look(
        **common,
        **sides,
        loss=loss.name,
        difference=difference,
        low=low,
        high=high,
        labels=label_counts,
        left_out=left_out,
        warnings=warnings,
        decision=decision,
        reason=reason,
    )


def decided(
    settings: CanaryConfig,
    stable: Side,
    canary: Side,
    difference: float | None,
    low: float | None,
    high: float | None,
    mismatch: str,
    days: float,
) -> tuple[Decision, str]:
    """Return the decision, and the reason in one sentence.

    Promote once the interval's upper bound is below the margin; stop once its lower bound is above 0. As soon as the
    interval is narrower than the margin, one of the two holds, so every comparison with enough labels ends.
    """
    for side, name in ((canary, "the canary"), (stable, "the version in production")):
        if side.labelled < settings.min_labelled:
            why = f"{side.labelled:,} predictions of {name} have a label, and {settings.min_labelled:,} are needed"
            break
        if side.callers < sequential.MIN_CALLERS:
            why = f"{side.callers:,} callers asked {name}, and {sequential.MIN_CALLERS} are needed"
            break
    else:
        interval = f"its loss is {difference:+.4f} beside production's ({low:+.4f} to {high:+.4f})"
        if mismatch:
            why = mismatch
        elif high < settings.margin:
            surely = "surely better" if high < 0 else f"surely not {settings.margin:g} worse, which would matter"
            return "promote", f"the canary is {surely}: {interval}"
        elif low > 0:
            return "stop", f"the canary is surely worse: {interval}"
        else:
            why = f"it is not clear yet: {interval}; {settings.margin:g} worse would matter"
    return undecided(settings, why, days, comparable=not mismatch)


def undecided(settings: CanaryConfig, why: str, days: float, *, comparable: bool) -> tuple[Decision, str]:
    """Return the decision while it is not clear: wait until `max_days`. What cannot be compared is never promoted."""
    if days < settings.max_days:
        return "wait", f"{why}; day {days:.1f} of {settings.max_days}"
    end: Decision = settings.undecided if comparable else "stop"
    return end, f"after {days:.1f} of {settings.max_days} days still undecided ({why}): {end}, as configured"


def _with_losses(
    paths: Paths, config: ModelConfig, since: dt.datetime, stable: Version, canary: Version, loss: Loss
) -> tuple[pd.DataFrame, dict[str, int], dict[str, int]]:
    """Return the predictions with their loss (NaN without a label), the labels by source, and what is left out."""
    predictions = logged(paths.predictions / config.name, since, stable, canary, loss)
    rows, left_out = predictions.rows, dict(predictions.left_out)
    texts, label_counts = later_labels(paths, config, canary.spec, since, pd.Index(rows["id"]))
    labels = rows["id"].map(loss.labels(texts)).astype(float)
    if unusable := int((rows["id"].isin(texts.index) & labels.isna()).sum()):
        left_out[loss.no_label] = unusable
    return rows.assign(loss=loss.losses(predictions.answers, labels.to_numpy())), label_counts, left_out


def _mismatch(canary: int, stable: int, share: float) -> str:
    """Return what contradicts that `share` of the callers got the canary, or "".

    :param canary: the number of its callers
    :param stable: the number of the other version's callers
    """
    if sequential.share_evidence(canary, stable, share) < 1 / sequential.MISMATCH_ALPHA:
        return ""
    callers = canary + stable
    return (
        f"{canary / callers:.1%} of {callers:,} callers got the canary, and {share:.1%} should have: clients have "
        "another share, or one side's predictions are lost, so the two cannot be compared"
    )


def _unseen(version: Version) -> Side:
    return Side(version=version.number, logged=0, labelled=0, callers=0)


def _side(version: Version, rows: pd.DataFrame) -> Side:
    losses = rows["loss"].dropna()
    return Side(
        version=version.number,
        logged=len(rows),
        labelled=len(losses),
        callers=rows["caller"].nunique(),
        loss=float(losses.mean()) if len(losses) else None,
    )


def _difference(canary: pd.DataFrame, stable: pd.DataFrame, settings: CanaryConfig) -> tuple[float, float, float]:
    """Return the canary's mean loss minus the other version's, and the interval of this difference."""
    (mean, variance), (stable_mean, stable_variance) = _mean_loss(canary), _mean_loss(stable)
    difference = float(mean - stable_mean)
    low, high = sequential.interval(difference, variance + stable_variance, alpha=settings.alpha, scale=settings.margin)
    return difference, float(low), float(high)


def _mean_loss(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    labelled = rows.dropna(subset="loss")
    callers, _ = pd.factorize(labelled["caller"])
    return sequential.mean_and_variance(*sequential.by_caller(labelled["loss"].to_numpy(), callers))
