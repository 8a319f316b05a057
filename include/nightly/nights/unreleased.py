"""Why a night whose gates have passed does not release, as far as it is known before its release step."""

from nightly.io.paths import Paths
from nightly.records.night import Night, utc_now
from nightly.records.release import NotReleased
from nightly.release.store import ReleaseStore


def reason_not_to_release(night: Night, paths: Paths) -> str:
    """Return why the release step is skipped, as part of a sentence, or "" to run it.

    If the release has to wait for a canary, that is recorded in the night's not_released.json. An earlier try's file is
    removed first.
    """
    path = night.folder(paths) / NotReleased.FILE
    path.unlink(missing_ok=True)
    if not night.release:
        return "this run is not asked to release: production stays as it is. A backfill releases only with release=yes"
    waits_for = ReleaseStore(paths.serving, paths.releases, night.model).disk.waits_for(night.run_id)
    if waits_for:
        NotReleased(reason=waits_for, decided_at=utc_now()).save(path)
    return waits_for


def recorded_reason(night: Night, paths: Paths) -> str:
    """Return why the release step ran and released nothing; "" if it released."""
    path = night.folder(paths) / NotReleased.FILE
    return NotReleased.load(path).reason if path.exists() else ""
