"""A node of a Kubernetes cluster without containers: it runs the command of each pod here, as a process.

It takes every pod that no node has, reports its phase and its container's state, serves the container's log to the API
server, and ends a deleted pod as the kubelet does: SIGTERM, the grace period, SIGKILL. An emptyDir is a folder of the
pod's own, in a mount namespace of its own (as root). Containers after the first are sidecars, which never end.
"""

import base64
import contextlib
import datetime as dt
import json
import os
import signal
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from nightly.io.polling import poll

NODE = "here"
LAST = 2048  # bytes of the log that become the message of a container that failed
POLL_SECONDS = 0.2
REMOVAL_SECONDS = 300  # the longest wait for a test that has stopped the removal of pods
MOUNT = 'mkdir -p "$2" && mount --bind "$1" "$2" && shift 2 && exec "$@"'


def now() -> str:
    return dt.datetime.now(dt.UTC).isoformat()


class Container:
    """The process of a pod's container, and its log with the time of each line."""

    def __init__(self, pod: client.V1Pod, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self.lines: list[tuple[dt.datetime, bytes]] = []
        self.started = now()
        self.reason = ""  # instead of Completed or Error
        for mount in pod.spec.containers[0].volume_mounts or []:
            if any(volume.name == mount.name and volume.empty_dir for volume in pod.spec.volumes):
                (source := folder / mount.name).mkdir(parents=True, exist_ok=True)
                command = ["unshare", "--mount", "sh", "-c", MOUNT, "sh", str(source), mount.mount_path, *command]
        self.process = subprocess.Popen(
            command, env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append((dt.datetime.now(dt.UTC), line))

    def end(self, how: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, how)

    def state(self) -> dict[str, Any]:
        code = self.process.poll()
        if code is None:
            return {"running": {"startedAt": self.started}}
        self._reader.join(timeout=5)
        code = 128 - code if code < 0 else code
        log = b"".join(line for _, line in self.lines)
        return {
            "terminated": {
                "exitCode": code,
                "reason": self.reason or ("Error" if code else "Completed"),
                "message": log[-LAST:].decode(errors="replace") if code else "",
                "startedAt": self.started,
                "finishedAt": now(),
            }
        }


class Kubelet:
    """The node.

    :param api: a client that may do everything
    :param folder: for emptyDirs and the certificate
    :param environment: of every container, as its image would set it
    """

    def __init__(self, api: client.CoreV1Api, folder: Path, environment: dict[str, str]) -> None:
        self.api, self.folder, self.environment = api, folder, environment
        self.containers: dict[str, Container] = {}  # by the pod's name, also of deleted pods
        self.seen: dict[str, dict[str, Any]] = {}  # the pods as they were requested, as JSON
        self.pulls = True  # whether images can be pulled
        self.removes = threading.Event()  # cleared: a deleted pod whose container has ended is still there
        self.removes.set()
        self._evicted: dict[str, str] = {}
        self._stop = threading.Event()

    def __enter__(self) -> "Kubelet":
        self.server = _log_server(self)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        status = {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.server.server_port}},
        }
        self.api.create_node({"metadata": {"name": NODE}})
        self.api.patch_node_status(NODE, {"status": status})
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.removes.set()
        self._thread.join(timeout=60)
        for container in self.containers.values():
            container.end(signal.SIGKILL)
        self.server.shutdown()
        self.server.server_close()

    def evict(self, name: str, message: str) -> None:
        """End a pod as a node does that runs out of something."""
        self._evicted[name] = message
        self.containers[name].end(signal.SIGKILL)

    def kill_for_memory(self, name: str) -> None:
        """End a container as the kernel does, beyond its limit."""
        self.containers[name].reason = "OOMKilled"
        self.containers[name].end(signal.SIGKILL)

    def pods(self) -> list[client.V1Pod]:
        return self.api.list_pod_for_all_namespaces().items

    def _work(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            for pod in self.pods():
                try:
                    self._attend(pod)
                except ApiException as error:
                    if error.status not in (404, 409):
                        raise

    def _attend(self, pod: client.V1Pod) -> None:
        name = pod.metadata.name
        if not pod.spec.node_name:
            plain = self.api.api_client.sanitize_for_serialization(pod)
            self.seen[name] = plain
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            binding = {"metadata": {"name": name}, "target": target}
            self.api.create_namespaced_pod_binding(name, pod.metadata.namespace, binding, _preload_content=False)
        elif pod.metadata.deletion_timestamp:
            self._delete(pod)
        elif pod.status.phase in ("Succeeded", "Failed"):
            return
        elif name in self.containers:
            self._report(pod, self.containers[name].state())
        elif not self.pulls:
            self._report(pod, {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})
        else:
            self._start(pod)

    def _start(self, pod: client.V1Pod) -> None:
        try:
            environment = self._environment(pod)
        except ApiException as error:  # a secret is missing
            waiting = {"reason": "CreateContainerConfigError", "message": json.loads(error.body)["message"]}
            self._report(pod, {"waiting": waiting})
            return
        container = pod.spec.containers[0]
        command = [*(container.command or []), *(container.args or [])]
        folder = self.folder / pod.metadata.name
        self.containers[pod.metadata.name] = Container(pod, command, environment, folder)

    def _environment(self, pod: client.V1Pod) -> dict[str, str]:
        container = pod.spec.containers[0]
        values = dict(self.environment)
        for source in container.env_from or []:
            secret = self.api.read_namespaced_secret(source.secret_ref.name, pod.metadata.namespace)
            plain = self.api.api_client.sanitize_for_serialization(secret)
            values |= {key: _decoded(value) for key, value in plain.get("data", {}).items()}
        for variable in container.env or []:
            field = variable.value_from and variable.value_from.field_ref.field_path
            values[variable.name] = pod.metadata.name if field == "metadata.name" else variable.value or ""
        return values

    def _report(self, pod: client.V1Pod, state: dict[str, Any]) -> None:
        name, (container, *sidecars) = pod.metadata.name, pod.spec.containers
        phase = "Running" if "running" in state else "Pending"
        if ended := state.get("terminated"):
            phase = "Failed" if ended["exitCode"] else "Succeeded"
        if ended and sidecars:
            phase = "Running"
        status = {
            "phase": phase,
            "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [
                *(_container_status(sidecar, {"running": {"startedAt": now()}}) for sidecar in sidecars),
                _container_status(container, state),
            ],
        }
        if name in self._evicted:
            status |= {"phase": "Failed", "reason": "Evicted", "message": self._evicted[name]}
        if not pod.status.start_time:
            status["startTime"] = now()
        self.api.patch_namespaced_pod_status(name, pod.metadata.namespace, {"status": status})

    def _delete(self, pod: client.V1Pod) -> None:
        container = self.containers.get(pod.metadata.name)
        if container and container.process.poll() is None:
            container.end(signal.SIGTERM)
            grace = pod.metadata.deletion_grace_period_seconds or 0
            poll(lambda: container.process.poll() is not None, every=0.05, seconds=grace)
            container.end(signal.SIGKILL)
            container.process.wait()
            self._report(pod, container.state())
            self.removes.wait(timeout=REMOVAL_SECONDS)
        self.api.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0)


def _container_status(container: client.V1Container, state: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
    }


def _decoded(value: str) -> str:
    return base64.b64decode(value).decode()


def _log_server(kubelet: Kubelet) -> ThreadingHTTPServer:
    """Serve /containerLogs/NAMESPACE/POD/CONTAINER, which the API server asks for a pod's log."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            options = {name: values[0] for name, values in parse_qs(address.query).items()}
            container = kubelet.containers.get(address.path.split("/")[3])
            self.send_response(200 if container else 404)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            if container:
                self._send(container, options)

        def _send(self, container: Container, options: dict[str, str]) -> None:
            since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=float(options.get("sinceSeconds", "1e6")))
            sent = 0
            while True:
                ended = container.process.poll() is not None
                if ended:
                    container._reader.join(timeout=5)
                lines = container.lines[sent:]
                sent += len(lines)
                for time_of, line in lines:
                    if time_of >= since:
                        stamp = f"{time_of.isoformat()} ".encode() if options.get("timestamps") == "true" else b""
                        self.wfile.write(stamp + line)
                self.wfile.flush()
                if ended or options.get("follow") != "true":
                    return
                time.sleep(POLL_SECONDS)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    certificate, key = kubelet.folder / "kubelet.crt", kubelet.folder / "kubelet.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server
