"""Compare a canary with the version in production, and carry out what follows. Airflow's DAG `canary` runs the two
steps; the command is `bin/releases canary MODEL status|promote|stop`.

The decision is written down before anything is done, so that whoever comes next completes what a killed run left.
"""

import logging
from pathlib import Path
from typing import Any

from nightly.baselines import withdraw_after
from nightly.canary.compare import look
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.canary import CanaryRequest, Comparison, Look
from nightly.records.night import utc_now
from nightly.records.release import ReleaseRecord
from nightly.release.comparisons import comparisons, save_comparison
from nightly.release.errors import ReleaseError
from nightly.release.store import ReleaseStore
from nightly.release.targets import publish, retire
from nightly.serving.server import find_server

log = logging.getLogger("nightly")

REQUEST, LOOK = "canary.json", "look.json"  # in the run's folder
COMPARISON = "the comparison"


def compare_step(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Look at the canary of the model that `canary.json` in the folder names, and write look.json; {} without one."""
    asked = CanaryRequest.load(night_folder / REQUEST)
    (night_folder / LOOK).unlink(missing_ok=True)
    found = compare(paths, asked.model, asked.run_id)
    if found is None:
        return {"unfinished": bool(_unfinished(paths, asked.model))}
    found.save(night_folder / LOOK)
    return {"look": found.model_dump(mode="json")}


def decide_step(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Do what the look in the folder says or, if the request names a decision, a person. Again, it completes it."""
    asked = CanaryRequest.load(night_folder / REQUEST)
    found = Look.load(night_folder / LOOK) if (night_folder / LOOK).exists() else None
    return decide(paths, asked, found).model_dump(mode="json")


def compare(paths: Paths, model: str, run_id: str = "") -> Look | None:
    """A look at the model's canary, by all that is known now; None where it has none."""
    record = _store(paths, model).disk.canary()
    if record is None:
        log.info("%s has no canary: there is nothing to compare", model)
        return None
    found = look(paths, load_config(model), record, utc_now(), run_id)
    for warning in found.warnings:
        log.warning("%s", warning)
    log.info("%s: %s", found.decision, found.reason)
    return found


def decide(paths: Paths, asked: CanaryRequest, found: Look | None) -> Comparison:
    """Keep the look, and carry out its decision or the one asked for. Raises ReleaseError."""
    comparison = resolve(paths, asked, found)
    if comparison is None:
        raise ReleaseError(f"{asked.model} has no canary any more: there is nothing to decide")
    if comparison.done_at:  # this run again
        return comparison
    save_comparison(paths, comparison)
    return _carry_out(paths, comparison) if comparison.decision else comparison


def resolve(paths: Paths, asked: CanaryRequest, found: Look | None) -> Comparison | None:
    """What `decide` would keep and carry out now; None without a canary. Changes nothing. Raises ReleaseError."""
    if asked.decision != "auto" and not asked.reason.strip():
        raise ReleaseError(f"the canary of {asked.model} is not to be {asked.decision}d without a reason: give one")
    record = _store(paths, asked.model).disk.canary()
    unfinished = _unfinished(paths, asked.model)
    if unfinished is not None and (asked.decision == "auto" or record is None):
        log.warning("%s of %s %s is not completed yet", unfinished.decision, unfinished.model, unfinished.version)
        return unfinished
    kept = {comparison.version: comparison for comparison in comparisons(paths, asked.model)}
    if found and (ended := kept.get(found.canary.version)) and ended.done_at:
        return ended
    if record is None or (found and found.canary.version != record.version):
        return None
    comparison = _with(kept.get(record.version) or _begun(record), found)
    decision, reason, by = asked.decision, asked.reason, asked.requested_by
    if decision == "auto":
        decision, reason, by = (found.decision, found.reason, COMPARISON) if found else ("wait", "", "")
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
        # As after a rollback: the next night is compared with what the version in production was trained on.
        stable = store.disk.record(comparison.stable)
        gone = withdraw_after(paths.baselines, comparison.model, stable.run_id, stable.snapshot_id)
        baselines = comparison.baselines + [baseline.snapshot_id for baseline in gone]
        comparison = save_comparison(paths, comparison.model_copy(update={"baselines": baselines}))
        retire(config, store)
    log.info("%s %s: %s: %s", comparison.model, comparison.version, comparison.decision, comparison.reason)
    return save_comparison(paths, comparison.model_copy(update={"done_at": utc_now()}))


def _begun(record: ReleaseRecord) -> Comparison:
    return Comparison(
        model=record.model,
        version=record.version,
        stable=record.previous_version,
        share=record.canary_share,
        since=record.canary_since,
    )


def _with(comparison: Comparison, found: Look | None) -> Comparison:
    """The look is added; a run that looks again replaces its own."""
    if found is None:
        return comparison
    others = [look for look in comparison.looks if not look.run_id or look.run_id != found.run_id]
    return comparison.model_copy(update={"looks": [*others, found]})


def _unfinished(paths: Paths, model: str) -> Comparison | None:
    """A decision that was made and not carried out to its end."""
    return next((c for c in comparisons(paths, model) if c.decision and not c.done_at), None)


def _store(paths: Paths, model: str) -> ReleaseStore:
    return ReleaseStore(paths.serving, paths.releases, model)
