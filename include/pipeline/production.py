"""The steps evaluator, model_gate and release: a night is judged against the version that is in production now.

A promotion, a rollback or another night's release may put another version into production after the night was planned.
Then the night says so and is judged against that one. The release checks it once more while it holds the lock.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

from include.contracts.night import GateResult, Night, utc_now
from include.contracts.places import Places
from include.contracts.release import NOT_RELEASED, NotReleased
from include.pipeline.pipeline import pinned_production
from include.pipeline.reuse import link_file
from include.pipeline.runner import run_node
from include.release.errors import ProductionChanged
from include.release.store import ReleaseStore

log = logging.getLogger("nightly")


def evaluator(night_folder: Path, places: Places) -> dict[str, Any]:
    follow(night_folder, places)
    pin(Night.load(night_folder / "request.json"), places)
    return run_node("evaluator", night_folder, places)


def model_gate(night_folder: Path, places: Places) -> dict[str, Any]:
    follow(night_folder, places)
    try:
        return run_node("model_gate", night_folder, places)
    except ProductionChanged as error:
        log.warning("%s", error)
    pin(Night.load(night_folder / "request.json"), places)
    run_node("evaluator", night_folder, places)
    return run_node("model_gate", night_folder, places)


def release(night_folder: Path, places: Places) -> dict[str, Any]:
    """The release record; or what the model gate decides, where it holds a night that it judged again."""
    while True:
        try:
            return run_node("release", night_folder, places)
        except ProductionChanged as error:
            log.warning("%s", error)
        gate = GateResult.parse(model_gate(night_folder, places), where="the model gate, again")
        if not gate.passed:
            reason = f"the model gate, again, held it: {gate.held_for[0].message}"
            NotReleased(reason=reason, decided_at=utc_now()).save(night_folder / NOT_RELEASED)
            return gate.model_dump(mode="json")


def follow(night_folder: Path, places: Places) -> None:
    """Let the night be judged against what is in production now, unless that is its own release."""
    path = night_folder / "request.json"
    night = Night.load(path)
    store = ReleaseStore(places.serving, places.releases, night.model)
    production = store.production()
    own = production is not None and store.record(production).run_id == night.run_id
    if own or production == night.production_version:
        return
    note = (
        f"judged against {_title(production)}: in production when the night was planned was "
        f"{_title(night.production_version)}"
    )
    log.warning("%s", note)
    night.model_copy(update={"production_version": production, "production_note": note}).save(path)


def pin(night: Night, places: Places) -> None:
    """Keep the production model of the night as hard links, whatever a rollback or retention does to its folder."""
    if night.production_version is None:
        return
    store, target = ReleaseStore(places.serving, places.releases, night.model), pinned_production(night, places)
    for tries_left in (2, 1, 0):
        shutil.rmtree(target, ignore_errors=True)
        try:
            shutil.copytree(store.find(night.production_version), target, copy_function=link_file)
            return
        except (FileNotFoundError, shutil.Error):  # renamed meanwhile: it has another folder now
            if not tries_left:
                raise


def _title(version: int | None) -> str:
    return f"version {version}" if version is not None else "nothing"
