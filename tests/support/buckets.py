"""A model whose releases are copied to Google Cloud."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from nightly.records.config import ModelConfig
from nightly.records.release import ReleaseRecord
from nightly.release.store import ReleaseStore
from tests.support.releases import NOW, export, release


def config(gcs: str, **vertex: object) -> ModelConfig:
    release = {"gcs": gcs, "keep": 2, **({"vertex": vertex} if vertex else {})}
    return ModelConfig.model_validate(
        {
            "name": "taxi",
            "description": "",
            "source": {"kind": "files", "path": "nowhere"},
            "data": {"id_columns": [], "time_column": "t", "label": {"column": "y", "positive": ["1"]}},
            "model_gate": {"metrics": {"auc": {"floor": 0.5}}},
            "release": release,
        }
    )


def new_project(folder: Path) -> SimpleNamespace:
    """A serving volume, and `release(i)`, which releases model `i` into it as NOW + i."""
    store = ReleaseStore(folder / "serving", folder / "releases", "taxi")

    def one(i: int, kilobytes: int = 16, seed: str = "") -> ReleaseRecord:
        source = export(folder / "exports" / str(i), f"{seed}{i}", kilobytes)
        return release(store, source, f"run-{seed}{i}", NOW + i)

    made: Callable[..., ReleaseRecord] = one
    return SimpleNamespace(store=store, release=made)
