"""The release store of a model that is named on a command line."""

from nightly.io.hints import did_you_mean
from nightly.io.paths import Paths
from nightly.release.errors import ReleaseError
from nightly.release.store import ReleaseStore


def store_of(paths: Paths, model: str) -> ReleaseStore:
    """Return the model's release store. Raises ReleaseError if it has no releases, and suggests the closest name."""
    store = ReleaseStore(paths.serving, paths.releases, model)
    released = {path.parent.name for path in paths.releases.glob("*/[0-9]*.json")}  # a session makes empty folders
    if model in released or store.disk.folder.is_dir():
        return store
    advice = did_you_mean(model, released) if released else "; a night with --release makes a first version"
    raise ReleaseError(f"nothing was released for {model!r} in {paths.releases}{advice}")
