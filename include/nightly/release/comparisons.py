"""The comparisons of a model's canaries with production: <releases>/<model>/canaries/<version>.json."""

from collections.abc import Collection
from pathlib import Path

from nightly.io.paths import Paths
from nightly.records.canary import Comparison
from nightly.records.night import utc_now
from nightly.state import publish


def comparison_path(paths: Paths, model: str, version: int) -> Path:
    return paths.releases / model / "canaries" / f"{version}.json"


def comparisons(paths: Paths, model: str) -> list[Comparison]:
    """Return every comparison of the model, oldest first."""
    files = comparison_path(paths, model, 0).parent.glob("[0-9]*.json")
    return sorted(map(Comparison.load, files), key=lambda comparison: comparison.version)


def save_comparison(paths: Paths, comparison: Comparison) -> Comparison:
    path = comparison_path(paths, comparison.model, comparison.version)
    comparison.save(path)
    publish(path)  # a decision is known before it is carried out, even if this process dies
    return comparison


def end_comparisons(paths: Paths, model: str, withdrawn: Collection[int], why: str, by: str) -> None:
    """Record `stop` as carried out for each of these versions whose comparison has not ended.

    A decision that was not carried out completely, such as a promotion, can never be: its version is withdrawn.
    """
    for comparison in comparisons(paths, model):
        if comparison.version in withdrawn and not comparison.done_at:
            stopped = comparison.decided("stop", why, by)
            save_comparison(paths, stopped.model_copy(update={"done_at": utc_now()}))
