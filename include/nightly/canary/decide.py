"""Compare a canary with the version in production, and carry out the decision.

Airflow's DAG `canary` runs the two steps; the command is `bin/releases canary MODEL status|promote|stop`. The decision
is recorded before it is carried out, so the next run completes the work of a killed one.
"""

import logging
from pathlib import Path
from typing import Any

from nightly.baselines import withdraw_after
from nightly.canary.compare import look as take_look
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.canary import COMPARISON, CanaryRequest, Comparison, Look
from nightly.records.night import utc_now
from nightly.records.release import ReleaseRecord
from nightly.release.comparisons import comparisons, save_comparison
from nightly.release.errors import ReleaseError
from nightly.release.store import ReleaseStore
from nightly.release.targets import publish, retire
from nightly.serving.server import find_server

log = logging.getLogger("nightly")


def compare_step(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Compare the canary of the model in `canary.json` with production, and write look.json.

    Returns the look or, without a canary, whether an earlier decision is still to be carried out.
    """
    request = CanaryRequest.load(night_folder / CanaryRequest.FILE)
    (night_folder / Look.FILE).unlink(missing_ok=True)
    look = compare(paths, request.model, request.run_id)
    if look is None:
        return {"unfinished": bool(_unfinished(paths, request.model))}
    look.save(night_folder / Look.FILE)
    return {"look": look.model_dump(mode="json")}


def decide_step(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Carry out the decision of the request or, if that is `auto`, of the look. A second call completes the first."""
    request = CanaryRequest.load(night_folder / CanaryRequest.FILE)
    look = Look.load(night_folder / Look.FILE) if (night_folder / Look.FILE).exists() else None
    return decide(paths, request, look).model_dump(mode="json")


def compare(paths: Paths, model: str, run_id: str = "") -> Look | None:
    """Compare the model's canary with production now; return the look, or None without a canary."""
    record = _store(paths, model).disk.canary()
    if record is None:
        log.info("%s has no canary: there is nothing to compare", model)
        return None
    look = take_look(paths, load_config(model), record, utc_now(), run_id)
    for warning in look.warnings:
        log.warning("%s", warning)
    log.info("%s: %s", look.decision, look.reason)
    return look


def decide(paths: Paths, request: CanaryRequest, look: Look | None) -> Comparison:
    """Save the look, and carry out the decision of the request or the look. Raises ReleaseError."""
    comparison = resolve(paths, request, look)
    if comparison is None:
        raise ReleaseError(f"{request.model} has no canary any more: there is nothing to decide")
    if comparison.done_at:  # an earlier call completed it
        return comparison
    save_comparison(paths, comparison)
    return _carry_out(paths, comparison) if comparison.decision else comparison


def resolve(paths: Paths, request: CanaryRequest, look: Look | None) -> Comparison | None:
    """Return the comparison that `decide` would save now; None without a canary. Changes nothing.

    Raises ReleaseError.
    """
    if request.decision != "auto" and not request.reason.strip():
        raise ReleaseError(f"a reason is required to {request.decision} the canary of {request.model}: give one")
    record = _store(paths, request.model).disk.canary()
    unfinished = _unfinished(paths, request.model)
    if unfinished is not None and (request.decision == "auto" or record is None):
        log.warning("%s of %s %s is not completed yet", unfinished.decision, unfinished.model, unfinished.version)
        return unfinished
    kept = {comparison.version: comparison for comparison in comparisons(paths, request.model)}
    if look and (ended := kept.get(look.canary.version)) and ended.done_at:
        return ended
    if record is None or (look and look.canary.version != record.version):
        return None
    comparison = _with_look(kept.get(record.version) or _new_comparison(record), look)
    decision, reason, by = request.decision, request.reason, request.requested_by
    if decision == "auto":
        decision, reason, by = (look.decision, look.reason, COMPARISON) if look else ("wait", "", "")
    return comparison if decision == "wait" else comparison.decided(decision, reason, by)


def _carry_out(paths: Paths, comparison: Comparison) -> Comparison:
    config, store = load_config(comparison.model), _store(paths, comparison.model)
    server = find_server(paths, comparison.model, config.release)
    if comparison.decision == "promote":
        if not server.address:
            raise ReleaseError(
                f"{comparison.model} {comparison.version} is not promoted: no model server is configured, so nobody "
                "would move the label. Set NIGHTLY_SERVING_REST and NIGHTLY_SERVING_GRPC"
            )
        publish(config, store, store.promote(comparison.version, server=server))
    else:
        why = f"stopped as canary by {comparison.decided_by}: {comparison.reason}"
        store.stop(comparison.version, why, server=server)
        # As after a rollback, the next night is compared with the training data of the version in production.
        stable = store.disk.record(comparison.stable)
        withdrawn = withdraw_after(paths.baselines, comparison.model, stable.run_id, stable.snapshot_id)
        baselines = comparison.baselines + [baseline.snapshot_id for baseline in withdrawn]
        comparison = save_comparison(paths, comparison.model_copy(update={"baselines": baselines}))
        retire(config, store)
    log.info("%s %s: %s: %s", comparison.model, comparison.version, comparison.decision, comparison.reason)
    return save_comparison(paths, comparison.model_copy(update={"done_at": utc_now()}))


def _new_comparison(record: ReleaseRecord) -> Comparison:
    return Comparison(
        model=record.model,
        version=record.version,
        stable=record.previous_version,
        share=record.canary_share,
        since=record.canary_since,
    )


def _with_look(comparison: Comparison, look: Look | None) -> Comparison:
    """Return the comparison with the look added; it replaces an earlier look of the same run."""
    if look is None:
        return comparison
    others = [other for other in comparison.looks if not other.run_id or other.run_id != look.run_id]
    return comparison.model_copy(update={"looks": [*others, look]})


def _unfinished(paths: Paths, model: str) -> Comparison | None:
    """Return the comparison whose decision was recorded but not completely carried out, or None."""
    return next((c for c in comparisons(paths, model) if c.decision and not c.done_at), None)


def _store(paths: Paths, model: str) -> ReleaseStore:
    return ReleaseStore(paths.serving, paths.releases, model)
