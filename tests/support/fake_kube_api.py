"""The part of Kubernetes' API that pods of steps need, where no real API server is: strict, and with roles.

It refuses a body with an unknown field, a name that exists, and what the user's role does not allow. It
deletes a pod's secrets with the pod, as the garbage collector does. tests/support/cluster.py prefers the real server.
"""

import base64
import copy
import datetime as dt
import json
import re
import ssl
import threading
import time
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import ApiClient

Plain = dict[str, Any]

PATH = re.compile(
    r"/(?:api/v1|apis/rbac\.authorization\.k8s\.io/v1)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<resource>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<part>status|log|binding))?$"
)
KINDS = {
    "pods": "V1Pod",
    "secrets": "V1Secret",
    "nodes": "V1Node",
    "namespaces": "V1Namespace",
    "roles": "V1Role",
    "rolebindings": "V1RoleBinding",
}
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Refused(Exception):
    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}


class FakeApi:
    """The server.

    :param tokens: user -> token. `admin` may do everything, others what the roles of a namespace allow
    """

    def __init__(self, tokens: dict[str, str]) -> None:
        self.users = {token: user for user, token in tokens.items()}
        self.objects: dict[tuple[str, str, str], Plain] = {}  # resource, namespace, name
        self.lock = threading.RLock()
        self.models = ApiClient()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.objects["namespaces", "", "kube-system"] = {"metadata": {"name": "kube-system"}}

    def start(self) -> None:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method: str, path: str, query: dict[str, str], body: Plain | None, token: str) -> Plain | bytes:
        match = PATH.match(path)
        if match is None and (match := re.match(r"/api/v1/(?P<resource>namespaces)/(?P<name>[^/]+)$", path)) is None:
            raise Refused(404, "NotFound", f"there is no {path}")
        fields = {"namespace": "", "name": "", "part": "", **{k: v or "" for k, v in match.groupdict().items()}}
        with self.lock:
            self._authorize(method, fields, token)
            if fields["part"] != "log":
                return self._answer(method, fields, query, body or {})
            pod = self._get("pods", fields["namespace"], fields["name"])
        return self._log(pod, query)

    def _authorize(self, method: str, fields: dict[str, str], token: str) -> None:
        user = self.users.get(token)
        if user == "admin":
            return
        verb = VERBS.get(method) or ("get" if fields["name"] else "list")
        resource = "/".join(filter(None, (fields["resource"], fields["part"])))
        for (kind, namespace, _), role in self.objects.items():
            if (kind, namespace) == ("roles", fields["namespace"]):
                for rule in role["rules"]:
                    if resource in rule["resources"] and verb in rule["verbs"]:
                        return
        raise Refused(403, "Forbidden", f"{user} cannot {verb} {resource} in {fields['namespace']!r}")

    def _answer(self, method: str, fields: dict[str, str], query: dict[str, str], body: Plain) -> Plain:
        resource, namespace, name = fields["resource"], fields["namespace"], fields["name"]
        if resource == "events":
            return {"kind": "EventList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}
        if fields["part"] == "binding":
            pod = self._get("pods", namespace, name)
            pod["spec"]["nodeName"] = body["target"]["name"]
            return {"kind": "Status", "status": "Success"}
        if method == "POST":
            return self._create(resource, namespace, body)
        if method == "GET" and not name:
            return {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": self._list(resource, namespace, query)}
        found = self._get(resource, namespace, name)
        if method == "PATCH":
            _merge(found, body)
        elif method == "DELETE":
            self._delete(resource, namespace, name, {**query, **body})
        return copy.deepcopy(found)

    def _create(self, resource: str, namespace: str, body: Plain) -> Plain:
        self._validate(body, KINDS[resource])
        name = body["metadata"]["name"]
        if (resource, namespace, name) in self.objects:
            raise Refused(409, "AlreadyExists", f'{resource} "{name}" already exists')
        created = copy.deepcopy(body)
        created["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "resourceVersion": "1"}
        if namespace:
            created["metadata"]["namespace"] = namespace
        if resource == "pods":
            created["status"] = {"phase": "Pending"}
        for key, value in created.pop("stringData", {}).items():
            created.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()
        self.objects[resource, namespace, name] = created
        return copy.deepcopy(created)

    def _validate(self, body: Plain, kind: str) -> None:
        """Refuse what the client's model of this kind would drop, as the API server does with an unknown field."""
        known = self.models.sanitize_for_serialization(self.models._ApiClient__deserialize(body, kind))
        if lost := _lost(body, known):
            raise Refused(400, "BadRequest", f"unknown field: {lost}")

    def _list(self, resource: str, namespace: str, query: dict[str, str]) -> list[Plain]:
        selector = [part for part in query.get("labelSelector", "").split(",") if part]
        return [
            copy.deepcopy(value)
            for (kind, of, _), value in self.objects.items()
            if kind == resource
            and namespace in ("", of)
            and all(_selects(part, value["metadata"].get("labels") or {}) for part in selector)
        ]

    def _get(self, resource: str, namespace: str, name: str) -> Plain:
        if (found := self.objects.get((resource, namespace, name))) is None:
            raise Refused(404, "NotFound", f'{resource} "{name}" not found')
        return found

    def _delete(self, resource: str, namespace: str, name: str, options: Plain) -> None:
        found = self.objects[resource, namespace, name]
        grace = int(options.get("gracePeriodSeconds", found.get("spec", {}).get("terminationGracePeriodSeconds", 30)))
        if resource == "pods" and grace and found["spec"].get("nodeName"):
            found["metadata"] |= {"deletionTimestamp": _now(), "deletionGracePeriodSeconds": grace}
            return
        del self.objects[resource, namespace, name]
        for key, value in list(self.objects.items()):
            owners = value["metadata"].get("ownerReferences") or []
            if any(owner["uid"] == found["metadata"]["uid"] for owner in owners):
                del self.objects[key]

    def _log(self, pod: Plain, query: dict[str, str]) -> bytes:
        """Return the log, from the pod's node, as the API server does."""
        status = self.objects["nodes", "", pod["spec"]["nodeName"]]["status"]
        port = status["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}/{query.pop('container', 'step')}"
        options = "&".join(f"{name}={value}" for name, value in query.items())
        context = ssl._create_unverified_context()
        address = f"https://127.0.0.1:{port}/containerLogs/{where}?{options}"
        with urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        ).open(address, timeout=60) as answer:
            return answer.read()


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _merge(target: Plain, patch: Plain) -> None:
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


def _selects(part: str, labels: Plain) -> bool:
    if part.startswith("!"):
        return part[1:] not in labels
    if "!=" in part:
        key, _, value = part.partition("!=")
        return labels.get(key) != value
    key, _, value = part.partition("=")
    return labels.get(key) == value


def _lost(body: Any, known: Any, where: str = "") -> str:
    """Return the path of the first field of `body` that is not in `known`, or ""."""
    if isinstance(body, dict):
        for key, value in body.items():
            if not isinstance(known, dict) or key not in known:
                if value in (None, {}, []):
                    continue
                return f"{where}.{key}"
            if lost := _lost(value, known[key], f"{where}.{key}"):
                return lost
    if isinstance(body, list):
        for number, (mine, theirs) in enumerate(zip(body, known, strict=True)):
            if lost := _lost(mine, theirs, f"{where}[{number}]"):
                return lost
    return ""


def _handler(api: FakeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            code, answer = 200, b""
            try:
                result = api.answer(self.command, address.path, query, body, token)
                answer = result if isinstance(result, bytes) else json.dumps(result).encode()
            except Refused as refused:
                code, answer = refused.status["code"], json.dumps(refused.status).encode()
            if query.get("watch"):  # nothing happens
                time.sleep(5)
                answer = b""
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if address.path.endswith("/log") else "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _respond

        def log_message(self, *_: object) -> None:
            pass

    return Handler
