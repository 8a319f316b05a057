"""What Airflow's plugin manager loads: the scheduler's side of the project. The rest is imported from `nightly`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from nightly_airflow.pool import POOL, SLOTS
from nightly_airflow.web.address import DAG_SUFFIX, MOUNT, ROUTE
from nightly_airflow.web.link import NightLink

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun


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

        if component.job_type == "SchedulerJob":  # it may have died with a listener at work
            from airflow.utils.session import create_session

            from nightly_airflow.missing_verdicts import start_if_missing

            with create_session() as session:
                start_if_missing(session)

    @hookimpl
    def on_dag_run_running(self, dag_run: DagRun, msg: str) -> None:
        give_missing_verdicts(dag_run)

    @hookimpl
    def on_dag_run_success(self, dag_run: DagRun, msg: str) -> None:
        conclude(dag_run)

    @hookimpl
    def on_dag_run_failed(self, dag_run: DagRun, msg: str) -> None:
        conclude(dag_run)


def conclude(dag_run: DagRun) -> None:
    """Write the note of a run that has ended; a night without a verdict gets one."""
    from nightly_airflow.note import write_note

    write_note(dag_run)
    give_missing_verdicts(dag_run)


def give_missing_verdicts(dag_run: DagRun) -> None:
    """Give a verdict to nights that ended without one, when a run of a night begins or ends."""
    from sqlalchemy.orm import object_session

    from nightly_airflow.missing_verdicts import start_if_missing

    session = object_session(dag_run)
    if session and dag_run.dag_id.endswith(DAG_SUFFIX):
        session.flush()  # the run's new state, which Airflow's sessions leave to the commit
        start_if_missing(session)


async def page(scope: Any, receive: Any, send: Any) -> None:
    """The page's application, imported at its first request: every process of Airflow's loads this file."""
    from nightly_airflow.web.app import app

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
