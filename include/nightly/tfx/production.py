"""The steps evaluator, model_gate and release, which judge a night against the version now in production.

A promotion, a rollback or another night's release may change the version in production after the night was planned.
The night then records the change and is judged against the new version. The release checks again under its lock.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

from nightly.io.paths import Paths
from nightly.models import config_of
from nightly.records.night import GateResult, Night, utc_now
from nightly.records.release import NotReleased
from nightly.release.errors import DamagedError, ProductionChanged
from nightly.release.repair import describe, repair
from nightly.release.store import ReleaseStore
from nightly.state import publish
from nightly.tfx.pipeline import pinned_production
from nightly.tfx.reuse import link_file
from nightly.tfx.runner import run_node

log = logging.getLogger("nightly")

UNCOMPARED = {  # [model_gate] damaged_production
    "bounds_only": "the model is judged by its fixed bounds and the constant answer alone, as in a first night",
    "hold": "the model gate holds the model, as [model_gate] damaged_production asks",
}


def evaluator(night_folder: Path, paths: Paths) -> dict[str, Any]:
    follow(night_folder, paths)
    prepare(night_folder, paths)
    return run_node("evaluator", night_folder, paths)


def model_gate(night_folder: Path, paths: Paths) -> dict[str, Any]:
    follow(night_folder, paths)
    try:
        return run_node("model_gate", night_folder, paths)
    except ProductionChanged as error:
        log.warning("%s", error)
    prepare(night_folder, paths)
    run_node("evaluator", night_folder, paths)
    return run_node("model_gate", night_folder, paths)


def release(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Return the release record, or the model gate's result if it holds the night when production changed."""
    while True:
        try:
            return run_node("release", night_folder, paths)
        except ProductionChanged as error:
            log.warning("%s", error)
        gate = GateResult.parse(model_gate(night_folder, paths), where="the model gate, again")
        if not gate.passed:
            reason = f"the model gate, again, held it: {gate.held_for[0].message}"
            NotReleased(reason=reason, decided_at=utc_now()).save(night_folder / NotReleased.FILE)
            return gate.model_dump(mode="json")


def follow(night_folder: Path, paths: Paths) -> None:
    """Point the night at the version now in production, unless that version is the night's own release.

    If only the folder of the night's production is gone, restore it, so that production stays the same.
    """
    path = night_folder / Night.FILE
    night = Night.load(path)
    store = ReleaseStore(paths.serving, paths.releases, night.model)
    production = store.disk.production()
    own = production is not None and store.disk.record(production).run_id == night.run_id
    if own or production == night.in_production:
        return
    if night.in_production is not None and night.in_production == store.disk.lost_production():
        prepare(night_folder, paths)
        return
    note = (
        f"judged against {_title(production)}: in production when the night was planned was "
        f"{_title(night.in_production)}"
    )
    log.warning("%s", note)
    changes = {"production_version": production, "production_note": note, "damaged_version": None, "damage": ""}
    night.model_copy(update=changes).save(path)


def prepare(night_folder: Path, paths: Paths) -> dict[str, Any]:
    """Pin the night's production model, repairing it if it is damaged or lost; return the night as JSON.

    A version that cannot be repaired is no baseline: the night records that, and [model_gate] damaged_production
    decides how it is judged. If the version's whole folder is lost, its predecessor is the baseline.
    Raises ReleaseError if the repair itself fails, as on a full disk: a retry may find an intact copy.
    """
    path = night_folder / Night.FILE
    planned = night = Night.load(path)
    if night.damaged_version is not None:  # an earlier try could not repair it: a copy may be there now
        night = _with(night, production_version=night.in_production, damaged_version=None, damage="")
    night = _with_lost_production(night, paths)
    lost = f"{night.damage}; " if night.damaged_version is not None else ""
    if (version := night.in_production) is None:
        return night.model_dump(mode="json")
    try:
        if not _pin(night, paths):
            repaired = describe(repair(paths, config_of(night), version))
            damage = f"{lost}version {version} in production was damaged, and is repaired: {repaired}"
            night = _with(night, damage=damage)
            if not _pin(night, paths):
                raise DamagedError(f"version {version} in production is damaged again as soon as it is repaired")
    except DamagedError as error:
        damage = f"{lost}{error}: {UNCOMPARED[config_of(night).model_gate.damaged_production]}"
        night = _with(night, production_version=None, damaged_version=version, damage=damage)
    if night.damage != planned.damage:
        log.warning("%s", night.damage)
    night.save(path)
    return night.model_dump(mode="json")


def _with_lost_production(night: Night, paths: Paths) -> Night:
    """Restore the production version if its whole folder is gone. Without copies, its predecessor is the baseline."""
    disk = ReleaseStore(paths.serving, paths.releases, night.model).disk
    lost = disk.lost_production()
    if lost is None:
        return night
    try:
        restored = describe(repair(paths, config_of(night), lost))
    except DamagedError as error:
        before = disk.production()
        damage = (
            f"{error}: version {before} is compared with instead; "
            f"`bin/releases quarantine {night.model} {lost} --reason lost` puts it into production"
        )
        return _with(night, production_version=before, damaged_version=lost, damage=damage)
    damage = f"the folder of version {lost} in production was gone, and is restored: {restored}"
    own = disk.record(lost).run_id == night.run_id  # a release of an earlier try: it is not compared with itself
    return _with(night, production_version=night.production_version if own else lost, damage=damage)


def _with(night: Night, **changes: Any) -> Night:
    return night.model_copy(update=changes)


def _pin(night: Night, paths: Paths) -> bool:
    """Keep the night's production model as hard links, safe from rollback and retention.

    Return False if its files differ from the released ones. Raises DamagedError if they are gone.
    """
    store, target = ReleaseStore(paths.serving, paths.releases, night.model), pinned_production(night, paths)
    for tries_left in (2, 1, 0):
        shutil.rmtree(target, ignore_errors=True)
        try:
            shutil.copytree(store.disk.find(night.in_production), target, copy_function=link_file)
            break
        except (FileNotFoundError, shutil.Error):  # a release or rollback has just renamed its folder
            if not tries_left:
                raise
    if store.disk.damage(store.disk.record(night.in_production), target):
        return False
    publish(target)
    return True


def _title(version: int | None) -> str:
    return f"version {version}" if version is not None else "nothing"
