import socket
import threading

import pytest

from nightly.io.polling import poll


@pytest.fixture(scope="session")
def airflow():
    """The page where Airflow mounts it, with Airflow's own log-in over a database of its own."""
    from airflow.api_fastapi.app import init_auth_manager
    from airflow.utils.db import initdb
    from fastapi import FastAPI
    from fastapi.responses import HTMLResponse

    from nightly_plugin import NightlyPlugin

    initdb()
    server = FastAPI()
    init_auth_manager(server)
    for app in NightlyPlugin.fastapi_apps:
        server.mount(app["url_prefix"], app["app"])

    @server.get("/around", response_class=HTMLResponse)
    def around() -> str:
        return '<!doctype html><html class="dark"><link rel="icon" href="data:,"><body>'  # stands for Airflow's own UI

    return server


@pytest.fixture
def token(airflow):
    """A log-in of Airflow's, by role; None is somebody without any."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    def of(role: str | None) -> str:
        return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="ann", role=role))

    return of


@pytest.fixture
def ask(airflow, token):
    """GET a path as a browser does, as somebody with a role; "" is not logged in. Redirects are not followed."""
    from fastapi.testclient import TestClient

    def get(path: str, role: str | None = "VIEWER", accept: str = "text/html"):
        cookies = {} if role == "" else {"_token": token(role)}
        client = TestClient(airflow, cookies=cookies, follow_redirects=False)
        return client.get(path, headers={"accept": accept})

    return get


@pytest.fixture
def site(airflow):
    """The same on a real port; its address."""
    import uvicorn

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(airflow, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        poll(lambda: server.started or not thread.is_alive(), every=0.01)
        assert server.started, "the server did not start"
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)
