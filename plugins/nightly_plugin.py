"""The plugin that Airflow loads: a listener in the scheduler, the pages of the nights, and links to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from nightly_airflow.web.address import DAG_SUFFIX, MOUNT, ROUTE
from nightly_airflow.web.link import NightLink

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun


class NightlyListener:
    """Does what needs Airflow's database, which the scheduler can reach and tasks cannot."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Create the pool of the ML steps, write missing verdicts, and correct times in the future.

        Also in the DAG processor and the triggerer: a managed Airflow may keep the plugin from its scheduler.
        """
        if type(component).__name__ != "Job":  # a task's process, without the database
            return
        from nightly_airflow.pool import ensure_pool

        ensure_pool()
        from airflow.utils.session import create_session

        from nightly_airflow import future_times
        from nightly_airflow.missing_verdicts import start_if_missing

        with create_session() as session:  # the scheduler may have died while the listener worked
            if future_times.component() == "scheduler":
                future_times.correct_schedulers(session, starting_on=component.hostname)
                future_times.correct_tasks(session)
            start_if_missing(session)
        if future_times.component() == "triggerer":
            future_times.correct_each_minute()

    @hookimpl
    def on_dag_run_running(self, dag_run: DagRun, msg: str) -> None:
        from sqlalchemy.orm import object_session

        from nightly_airflow.pool import restore_pool

        give_missing_verdicts(dag_run)
        if (session := object_session(dag_run)) and dag_run.dag_id.endswith(DAG_SUFFIX):
            restore_pool(session)

    @hookimpl
    def on_dag_run_success(self, dag_run: DagRun, msg: str) -> None:
        conclude(dag_run)

    @hookimpl
    def on_dag_run_failed(self, dag_run: DagRun, msg: str) -> None:
        conclude(dag_run)


def conclude(dag_run: DagRun) -> None:
    """Write the note of a run that has ended, and give a verdict to nights without one."""
    from nightly_airflow.note import write_note

    write_note(dag_run)
    give_missing_verdicts(dag_run)


def give_missing_verdicts(dag_run: DagRun) -> None:
    """Give a verdict to nights that ended without one, if `dag_run` is a night's."""
    from sqlalchemy.orm import object_session

    from nightly_airflow.missing_verdicts import start_if_missing

    session = object_session(dag_run)
    if session and dag_run.dag_id.endswith(DAG_SUFFIX):
        session.flush()  # writes the run's new state, which Airflow's sessions do only at the commit
        start_if_missing(session)


async def page(scope: Any, receive: Any, send: Any) -> None:
    """Run the page's application, imported at the first request because every Airflow process loads this file."""
    from nightly_airflow.web.app import app

    await app(scope, receive, send)


# Relative to the root of Airflow's UI, as the addresses below. The icon is a tile, visible in light and dark mode.
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
