"""The page in Airflow's UI: a small web application inside the API server, which shows the records.

Airflow does not protect a plugin's pages. Here every page requires Airflow's log-in, and a model is shown only to
users who may read the runs of its DAG. The style sheet, the script and the icon are public.
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
from nightly.state.errors import StateError
from nightly_airflow.web import log, render
from nightly_airflow.web.address import DAG_SUFFIX, MOUNT
from nightly_airflow.web.records import MODEL, NotFound, Records
from nightly_airflow.web.views import NightDetails

HEADERS = {
    # No foreign and no inline content; only Airflow may frame the page.
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


def may_read(model: str, user: BaseUser, entity: DagAccessEntity = DagAccessEntity.RUN) -> bool:
    """Return whether Airflow's auth manager lets the user read the runs, or another entity, of the model's DAG."""
    dag_id = f"{model}{DAG_SUFFIX}"
    return get_auth_manager().is_authorized_dag(
        method="GET",
        access_entity=entity,
        details=DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id)),
        user=user,
    )


def readable_model(model: str, user: User) -> str:
    """Return the model's name if it is valid and the user may read it; nobody else learns whether it exists."""
    if not MODEL.fullmatch(model):
        raise NotFound("A model's name has only lower-case letters, digits and _.")
    if not may_read(model, user):
        raise HTTPException(HTTPStatus.FORBIDDEN, f"You may not read the runs of {model}{DAG_SUFFIX}.")
    return model


Model = Annotated[str, Depends(readable_model)]


@app.middleware("http")
async def add_security_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


@app.exception_handler(StarletteHTTPException)
async def http_error(request: Request, error: StarletteHTTPException) -> Response:
    """Return an error page; redirect a browser that is not logged in to Airflow's log-in, which leads back here."""
    if error.status_code == HTTPStatus.UNAUTHORIZED and "text/html" in request.headers.get("accept", ""):
        inside = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        api_server = base_of(request).removesuffix(MOUNT)
        return RedirectResponse(f"{api_server}/api/v2/auth/login?next={quote(inside)}", HTTPStatus.SEE_OTHER)
    titles = {401: "You are not logged in", 403: "You may not see this", 404: "There is no such page"}
    return problem(request, error.status_code, titles.get(error.status_code, "That did not work"), str(error.detail))


@app.exception_handler(NotFound)
async def not_found(request: Request, error: NotFound) -> Response:
    return problem(request, HTTPStatus.NOT_FOUND, "Not found", str(error))


@app.exception_handler(StateError)
async def state_not_read(request: Request, error: StateError) -> Response:
    return problem(request, HTTPStatus.SERVICE_UNAVAILABLE, "The nights cannot be read now", str(error))


def problem(request: Request, status: int, title: str, message: str) -> HTMLResponse:
    return html_page("error.html", request, status=status, title=title, message=message)


def base_of(request: Request) -> str:
    """Return the path that this app is mounted at, including the API server's own."""
    return request.scope.get("root_path", "").rstrip("/")


def html_page(template: str, request: Request, *, status: int = HTTPStatus.OK, **context: Any) -> HTMLResponse:
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
    return html_page("overview.html", request, models=render.most_urgent_first(models))


@app.get("/dags/{dag_id}/runs/{run_id:path}")
def run_page(request: Request, user: User, dag_id: str, run_id: str) -> Response:
    """Redirect from a run to its night, for the tab on the run's page."""
    if not dag_id.endswith(DAG_SUFFIX):
        raise NotFound(f"{dag_id} is not a retrain DAG: its runs are not nights.")
    model = readable_model(dag_id.removesuffix(DAG_SUFFIX), user)
    return RedirectResponse(f"{base_of(request)}/{model}/nights/{quote(safe_name(run_id))}", HTTPStatus.SEE_OTHER)


@app.get("/{model}")
def model_page(request: Request, model: Model, page: int = 1) -> Response:
    return html_page("model.html", request, **render.model(Records().model(model), page))


@app.get("/{model}/nights/{name}")
def night_page(request: Request, model: Model, name: str, user: User) -> Response:
    details = Records().night(model, name)
    return html_page("night.html", request, **render.night(details, log_of(details, user)))


@app.get("/{model}/nights/{name}/report")
def report(model: Model, name: str, user: User) -> Response:
    """Return the night as one file, to keep or send."""
    details = Records().night(model, name)
    headers = {"Content-Disposition": f'attachment; filename="{model}-{safe_name(details.record.title)}.html"'}
    return HTMLResponse(render.report(details, log_of(details, user)), headers=headers)


def log_of(details: NightDetails, user: BaseUser) -> str:
    """Return the end of the failed task's log; "" if no task failed, or the user may not read logs."""
    model, task = details.record.model, details.failed_task
    if not task or not may_read(model, user, DagAccessEntity.TASK_LOGS):
        return ""
    return log.excerpt(f"{model}{DAG_SUFFIX}", details.record.run_id, task)


@app.get("/{model}/snapshots/{snapshot_id}")
def snapshot_page(request: Request, model: Model, snapshot_id: str) -> Response:
    manifest = Records().snapshot(model, snapshot_id)
    return html_page("record.html", request, **record(manifest, model, f"Snapshot {manifest.snapshot_id[:12]}"))


@app.get("/{model}/releases/{version}")
def release_page(request: Request, model: Model, version: str) -> Response:
    records = Records()
    release = records.release(model, version)
    night = safe_name(release.run_id)
    kept = any(record.name == night for record in records.nights(model))
    details = records.night(model, night) if kept else None
    return html_page("release.html", request, **render.release(release, details))


def record(contract: Contract, model: str, title: str) -> dict[str, Any]:
    return {"model": model, "title": title, "values": contract.model_dump(mode="json")}
