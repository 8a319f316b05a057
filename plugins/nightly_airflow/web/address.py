"""Where the page of a night is."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from airflow.configuration import conf

from nightly.io.paths import safe_name

MOUNT = "/nightly"  # where the app is, in Airflow's API server
ROUTE = "nightly"  # its frame in Airflow's UI, at /plugin/nightly; what follows is the path inside the frame
DAG_SUFFIX = "_retrain"


def night_url(model: str, run_id: str) -> str:
    """The night's page inside Airflow's UI, as an absolute URL."""
    root = conf.get("api", "base_url", fallback="").rstrip("/")
    inside = f"{urlsplit(root).path}{MOUNT}/{model}/nights/{safe_name(run_id)}"
    return f"{root}/plugin/{ROUTE}{quote(inside)}"
