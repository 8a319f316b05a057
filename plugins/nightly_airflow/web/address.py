"""The URL of a night's page."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from airflow.configuration import conf

from nightly.io.paths import safe_name

MOUNT = "/nightly"  # the app's path in Airflow's API server
ROUTE = "nightly"  # the app's frame in Airflow's UI is /plugin/nightly, followed by the path inside the frame
DAG_SUFFIX = "_retrain"


def night_url(model: str, run_id: str) -> str:
    """Return the absolute URL of the night's page inside Airflow's UI."""
    root = conf.get("api", "base_url", fallback="").rstrip("/")
    inside = f"{urlsplit(root).path}{MOUNT}/{model}/nights/{safe_name(run_id)}"
    return f"{root}/plugin/{ROUTE}{quote(inside)}"
