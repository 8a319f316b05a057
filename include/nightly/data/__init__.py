"""Everyday tasks on data, for a notebook; `bin/data` has the same tasks as commands (docs/data.md).

    from nightly.data import infer_schema, statistics, validate
    validate(statistics("new.csv"), infer_schema(statistics("trips.csv")))

The results are TFDV's own protos: its visualize_statistics, display_schema and display_anomalies show them.
"""

from importlib import import_module

_MODULES = {
    "compare": "comparing",
    "convert": "converting",
    "convert_on_beam": "on_beam",
    "drift": "comparing",
    "dry_run": "on_beam",
    "explained": "comparing",
    "first_schema": "schemas",
    "infer_schema": "schemas",
    "load_statistics": "measuring",
    "read_schema": "schemas",
    "save_schema": "schemas",
    "save_statistics": "measuring",
    "skew": "comparing",
    "statistics": "measuring",
    "statistics_on_beam": "on_beam",
    "summary": "summaries",
    "validate": "schemas",
    "with_thresholds": "schemas",
}
__all__ = list(_MODULES)


def __getattr__(name: str):
    """Import a function on first use, since TFDV takes 5 s to import."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
