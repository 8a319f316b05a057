"""What Airflow's plugin manager loads: the scheduler's side of the project. The rest is imported from `nightly`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from nightly.web.address import MOUNT, ROUTE
from nightly.web.link import NightLink

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

POOL, SLOTS = "ml", 2
RULE = "\n\n---\n\n"  # between the verdict and what a person wrote


class NightlyListener:
    """Does in the scheduler what a task cannot: it has the database, and tasks have not."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Make the pool of the ML steps, once: in a missing pool, tasks wait for ever. Its size is the user's."""
        if type(component).__name__ != "Job":  # a task's process: it has no database
            return
        from airflow.models.pool import Pool
        from sqlalchemy.exc import IntegrityError

        with contextlib.suppress(IntegrityError):  # another component starts just now, and was faster
            if Pool.get_pool(POOL) is None:
                Pool.create_or_update_pool(POOL, SLOTS, "ML steps at a time, over all models", include_deferred=False)

    @hookimpl
    def on_dag_run_success(self, dag_run: DagRun, msg: str) -> None:
        write_note(dag_run)

    @hookimpl
    def on_dag_run_failed(self, dag_run: DagRun, msg: str) -> None:
        write_note(dag_run)


def write_note(dag_run: DagRun) -> None:
    """What the run's tasks say of it as its note, which the list of runs shows; a person's own note stays.

    A night's verdict is one such text; the DAG `canary` has one for each model.
    """
    from airflow.models.xcom import XComModel
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    query = XComModel.get_many(run_id=dag_run.run_id, dag_ids=dag_run.dag_id, key="note")
    found = session.scalars(query).all() if session else []
    if not found:
        return
    theirs = (dag_run.note or "").rpartition(RULE)[2]
    if theirs.startswith("**"):  # only an earlier verdict
        theirs = ""
    verdict = "\n\n".join(sorted(XComModel.deserialize_value(said) for said in found))
    dag_run.note = (verdict + RULE + theirs)[:1000] if theirs else verdict


async def page(scope: Any, receive: Any, send: Any) -> None:
    """The page's application, imported at its first request: every process of Airflow's loads this file."""
    from nightly.web.app import app

    await app(scope, receive, send)


# As the addresses below, relative to where Airflow's UI is. A tile shows on every ground, in both modes.
ICON = f"{MOUNT[1:]}/-/icon.svg"


class NightlyPlugin(AirflowPlugin):
    name = "nightly"
    listeners = [NightlyListener()]
    fastapi_apps = [{"name": "Nights", "app": page, "url_prefix": MOUNT}]
    external_views = [
        {"name": "Nights", "href": f"{MOUNT[1:]}/", "destination": "nav", "url_route": ROUTE, "icon": ICON},
        {
            "name": "Night",
            "href": f"{MOUNT[1:]}/dags/{{DAG_ID}}/runs/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "night",
            "icon": ICON,
        },
    ]
    operator_extra_links = [NightLink()]
