"""Quarantine a version at a person's request: `bin/releases quarantine MODEL VERSION --reason "why"`."""

from nightly.canary.decide import decide
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.canary import CanaryRequest
from nightly.records.release import Rollback
from nightly.release.comparisons import end_comparisons
from nightly.release.errors import NotConfirmed, ReleaseError
from nightly.release.store import ReleaseStore
from nightly.release.targets import retire
from nightly.serving.rollback import roll_back_now
from nightly.serving.server import find_server


def quarantine(paths: Paths, model: str, version: int, *, by: str, reason: str) -> str:
    """Move `version` out of the server's sight; return the result as a sentence.

    The version in production is rolled back, and a canary is stopped. Raises ReleaseError, and NotConfirmed if the
    change is made but the model server does not answer.
    """
    if not reason.strip():
        raise ReleaseError(f"{model} {version} is not quarantined without a reason")
    config = load_config(model)
    store = ReleaseStore(paths.serving, paths.releases, model)
    earlier = [other for other in store.disk.released() if other < version]
    canary = store.disk.canary()
    if canary and canary.version == version:
        decide(paths, CanaryRequest(model=model, decision="stop", reason=reason, requested_by=by), None)
        return f"{model} {version} was the canary, and is stopped and quarantined"
    if version == store.disk.production() and earlier:
        roll_back_now(paths, Rollback(model=model, version=earlier[-1], reason=reason, requested_by=by))
        return f"{model} {version} was in production, and is quarantined; {model} is back at {earlier[-1]}"
    not_confirmed: NotConfirmed | None = None
    try:
        store.quarantine(version, f"by {by}: {reason}", server=find_server(paths, model, config.release))
    except NotConfirmed as error:
        not_confirmed = error
    end_comparisons(paths, model, [version], reason, by)
    retire(config, store)
    if not_confirmed:
        raise not_confirmed
    return f"{model} {version} is quarantined; {store.disk.production() or 'nothing'} is in production"
