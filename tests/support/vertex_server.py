"""Vertex AI's Model Registry over its REST, as far as a release asks it: uploads that take a while, versions, aliases.

As the real one: versions are numbered 1, 2, …; exactly one has the alias `default`; an alias is on one version only;
the default version and a deployed one cannot be deleted; operations are polled below /v1/.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

POLLS = 1  # an operation is not done when it is first asked for
STATUS = {404: "NOT_FOUND", 409: "ALREADY_EXISTS", 400: "FAILED_PRECONDITION"}


class Refused(Exception):
    pass


class Registry(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.models: dict[str, list[dict[str, Any]]] = {}
        self.numbers: dict[str, int] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.deployed: set[str] = set()
        self.uploads: list[dict[str, Any]] = []
        self.fail_with: dict[str, Any] | None = None
        self.lock = threading.Lock()

    def upload(self, parent: str, asked: dict[str, Any]) -> dict[str, Any]:
        self.uploads.append(asked)
        name = asked.get("parentModel") or f"{parent}/models/{asked['modelId']}"
        if "modelId" in asked and name in self.models:
            raise Refused(409, f"{name} exists")
        if "parentModel" in asked and name not in self.models:
            raise Refused(404, f"{name} does not exist")
        if not asked["model"]["artifactUri"].startswith("gs://"):
            raise Refused(400, "artifactUri")
        if self.fail_with:
            return self.operation(name, error=self.fail_with)
        number = self.numbers[name] = self.numbers.get(name, 0) + 1
        versions = self.models.setdefault(name, [])
        aliases = ["default"] if not versions else []
        versions.append({**asked["model"], "name": name, "versionId": str(number), "versionAliases": aliases})
        kind = "type.googleapis.com/google.cloud.aiplatform.v1.UploadModelResponse"
        return self.operation(name, response={"@type": kind, "model": name, "modelVersionId": str(number)})

    def operation(self, name: str, **result: Any) -> dict[str, Any]:
        operation = f"{name}/operations/{len(self.operations) + 1}"
        self.operations[operation] = {"polls": POLLS, **result}
        return {"name": operation}

    def poll(self, name: str) -> dict[str, Any]:
        operation = self.operations[name]
        operation["polls"] -= 1
        result = {key: value for key, value in operation.items() if key != "polls"}
        return {"name": name, "done": True, **result} if operation["polls"] < 0 else {"name": name}

    def version(self, name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        model, _, number = name.partition("@")
        versions = self.models.get(model, [])
        for version in versions:
            if version["versionId"] == number:
                return versions, version
        raise Refused(404, f"{name} does not exist")

    def merge_aliases(self, name: str, aliases: list[str]) -> dict[str, Any]:
        versions, version = self.version(name)
        for other in versions:
            other["versionAliases"] = [alias for alias in other["versionAliases"] if alias not in aliases]
        version["versionAliases"] += aliases
        return version

    def delete(self, name: str) -> dict[str, Any]:
        versions, version = self.version(name)
        if "default" in version["versionAliases"] or name in self.deployed:
            raise Refused(400, f"{name} is deployed or default")
        versions.remove(version)
        return self.operation(name, response={"@type": "type.googleapis.com/google.protobuf.Empty"})


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        length = int(self.headers.get("Content-Length") or 0)
        asked = json.loads(self.rfile.read(length) or b"{}")
        status, body = 200, None
        with self.server.lock:
            try:
                body = self.route(method, path, asked)
            except Refused as error:
                status, message = error.args
                body = {"error": {"code": status, "message": message, "status": STATUS[status]}}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def route(self, method: str, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        registry = self.server
        if method == "POST" and (found := re.fullmatch(r"/v1/(projects/[^/]+/locations/[^/]+)/models:upload", path)):
            return registry.upload(found[1], asked)
        if method == "GET" and (found := re.fullmatch(r"/v1/(.+/models/[^/:]+):listVersions", path)):
            if found[1] not in registry.models:
                raise Refused(404, f"{found[1]} does not exist")
            return {"models": registry.models[found[1]]}
        if method == "POST" and (found := re.fullmatch(r"/v1/(.+/models/[^/:]+):mergeVersionAliases", path)):
            return registry.merge_aliases(found[1], asked["versionAliases"])
        if method == "DELETE" and (found := re.fullmatch(r"/v1/(.+/models/[^/:]+):deleteVersion", path)):
            return registry.delete(found[1])
        if method == "GET" and path.removeprefix("/v1/") in registry.operations:
            return registry.poll(path.removeprefix("/v1/"))
        raise Refused(404, f"{method} {path}")

    def do_GET(self) -> None:
        self.answer("GET")

    def do_POST(self) -> None:
        self.answer("POST")

    def do_DELETE(self) -> None:
        self.answer("DELETE")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Registry]:
    registry = Registry()
    thread = threading.Thread(target=registry.serve_forever, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.shutdown()
        registry.server_close()
        thread.join()
