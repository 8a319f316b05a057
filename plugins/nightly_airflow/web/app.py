"""The page in Airflow's UI: a small web application inside the API server, which shows the records on disk.

Airflow does not guard what a plugin serves. Here every page asks for Airflow's own log-in, and shows a model to those
who may read the runs of its DAG. Only the style sheet, the script and the icon are open to all: they are nobody's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.dag import DagModel
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from nightly.io.paths import safe_name
from nightly.records.base import Contract
from nightly_airflow.web import log, render
from nightly_airflow.web.address import DAG_SUFFIX, MOUNT
from nightly_airflow.web.records import MODEL, NotFound, Records
from nightly_airflow.web.views import NightDetails

HEADERS = {
    # Nothing from elsewhere, nothing inline; only Airflow itself may frame the page.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
User = Annotated[BaseUser, Depends(get_user)]

app = FastAPI(title="Nights", docs_url=None, redoc_url=None, openapi_url=None)


def may_read(model: str, user: BaseUser, what: DagAccessEntity = DagAccessEntity.RUN) -> bool:
    """May the user read the runs of the model's DAG, or something else of it? Asked of Airflow's auth manager."""
    dag_id = f"{model}{DAG_SUFFIX}"
    return get_auth_manager().is_authorized_dag(
        method="GET",
        access_entity=what,
        details=DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id)),
        user=user,
    )


def readable(model: str, user: User) -> str:
    """The model's name, if there can be such a one and the user may read it; whether it exists is not said before."""
    if not MODEL.fullmatch(model):
        raise NotFound("A model's name is lower-case letters, digits and _.")
    if not may_read(model, user):
        raise HTTPException(HTTPStatus.FORBIDDEN, f"You may not read the runs of {model}{DAG_SUFFIX}.")
    return model


Model = Annotated[str, Depends(readable)]


@app.middleware("http")
async def guarded(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await following(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


@app.exception_handler(StarletteHTTPException)
async def refused(request: Request, error: StarletteHTTPException) -> Response:
    """A person who is not logged in is sent to Airflow's log-in, and from there back here; a program gets a 401."""
    if error.status_code == HTTPStatus.UNAUTHORIZED and "text/html" in request.headers.get("accept", ""):
        inside = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        api_server = base_of(request).removesuffix(MOUNT)
        return RedirectResponse(f"{api_server}/api/v2/auth/login?next={quote(inside)}", HTTPStatus.SEE_OTHER)
    titles = {401: "You are not logged in", 403: "You may not see this", 404: "There is no such page"}
    return problem(request, error.status_code, titles.get(error.status_code, "That did not work"), str(error.detail))


@app.exception_handler(NotFound)
async def not_found(request: Request, error: NotFound) -> Response:
    return problem(request, HTTPStatus.NOT_FOUND, "Not found", str(error))


def problem(request: Request, status: int, title: str, message: str) -> HTMLResponse:
    return shown("error.html", request, status=status, title=title, message=message)


def base_of(request: Request) -> str:
    """The path this app is mounted at, the API server's own included."""
    return request.scope.get("root_path", "").rstrip("/")


def shown(template: str, request: Request, *, status: int = HTTPStatus.OK, **context: Any) -> HTMLResponse:
    return HTMLResponse(render.page(template, base=base_of(request), **context), status_code=status)


@app.get("/-/{name}")
def asset(name: str) -> Response:
    if name not in ASSETS:
        raise NotFound("There is no such file.")
    return FileResponse(
        render.HERE / "static" / name, media_type=ASSETS[name], headers={"Cache-Control": "public, max-age=300"}
    )


@app.get("/")
def overview(request: Request, user: User) -> Response:
    records = Records()
    models = [records.model(name) for name in records.models() if may_read(name, user)]
    return shown("overview.html", request, models=render.most_urgent_first(models))


@app.get("/dags/{dag_id}/runs/{run_id:path}")
def of_run(request: Request, user: User, dag_id: str, run_id: str) -> Response:
    """The night of a run of Airflow's: the tab on the run's own page."""
    if not dag_id.endswith(DAG_SUFFIX):
        raise NotFound(f"{dag_id} is no nightly retrain: its runs have no night.")
    model = readable(dag_id.removesuffix(DAG_SUFFIX), user)
    return RedirectResponse(f"{base_of(request)}/{model}/nights/{quote(safe_name(run_id))}", HTTPStatus.SEE_OTHER)


@app.get("/{model}")
def of_model(request: Request, model: Model, page: int = 1) -> Response:
    return shown("model.html", request, **render.model(Records().model(model), page))


@app.get("/{model}/nights/{name}")
def of_night(request: Request, model: Model, name: str, user: User) -> Response:
    details = Records().night(model, name)
    return shown("night.html", request, **render.night(details, log_of(details, user)))


@app.get("/{model}/nights/{name}/report")
def report(model: Model, name: str, user: User) -> Response:
    """The night as one file, to be kept or sent."""
    details = Records().night(model, name)
    headers = {"Content-Disposition": f'attachment; filename="{model}-{safe_name(details.record.title)}.html"'}
    return HTMLResponse(render.report(details, log_of(details, user)), headers=headers)


def log_of(details: NightDetails, user: BaseUser) -> str:
    """The end of the failed task's log; "" where no task failed, or the user may not read logs."""
    model, task = details.record.model, details.failed_task
    if not task or not may_read(model, user, DagAccessEntity.TASK_LOGS):
        return ""
    return log.excerpt(f"{model}{DAG_SUFFIX}", details.record.run_id, task)


@app.get("/{model}/snapshots/{snapshot_id}")
def of_snapshot(request: Request, model: Model, snapshot_id: str) -> Response:
    found = Records().snapshot(model, snapshot_id)
    return shown("record.html", request, **record(found, model, f"Snapshot {found.snapshot_id[:12]}"))


@app.get("/{model}/releases/{version}")
def of_release(request: Request, model: Model, version: str) -> Response:
    found = Records().release(model, version)
    context = record(found, model, f"Version {found.version}")
    names = [night.name for night in Records().nights(model)]
    night = safe_name(found.run_id)
    return shown("record.html", request, **context | {"night": night if night in names else ""})


def record(found: Contract, model: str, title: str) -> dict[str, Any]:
    return {"model": model, "title": title, "values": found.model_dump(mode="json"), "night": ""}
