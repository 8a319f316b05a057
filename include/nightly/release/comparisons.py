"""The comparisons of a model's canaries with production: <releases>/<model>/canaries/<version>.json."""

from pathlib import Path

from nightly.io.paths import Places
from nightly.records.canary import Comparison


def comparison_path(places: Places, model: str, version: int) -> Path:
    return places.releases / model / "canaries" / f"{version}.json"


def comparisons(places: Places, model: str) -> list[Comparison]:
    """Return every comparison of the model, oldest first."""
    paths = comparison_path(places, model, 0).parent.glob("[0-9]*.json")
    return sorted(map(Comparison.load, paths), key=lambda comparison: comparison.version)


def save_comparison(places: Places, comparison: Comparison) -> Comparison:
    comparison.save(comparison_path(places, comparison.model, comparison.version))
    return comparison
