"""An S3 server (moto's) that can be told to refuse requests, as a real one does when a token expires.

    python -m tests.support.s3_server      # prints its address

It is a process of its own: deltalake holds Python's lock while it waits for an answer.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import boto3
import requests

from nightly.io.paths import ROOT
from nightly.records.connection import Connection

CONTROL = "/control"
EXPIRED = (400, "ExpiredToken", "The provided token has expired.")
UNKNOWN_KEY = (403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")


class S3Server:
    """A server on 127.0.0.1 with the bucket `lake`."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.support.s3_server"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.url = self._process.stdout.readline().strip()
        boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="hidden",
        ).create_bucket(Bucket="lake")

    def connection(self, **extra: Any) -> Connection:
        """Return the connection of a user of this server."""
        extra = {"endpoint_url": self.url, "region_name": "us-east-1", **extra}
        return Connection(conn_type="aws", login="test", password="hidden", extra=extra)

    def refuse(self, status: int, code: str, message: str, after: int = 0) -> None:
        """Answer with an error of S3: each request if `after` is 0, else those for data files after so many."""
        self._tell({"refusal": [status, code, message], "after": after})

    def answer(self) -> list[str]:
        """Answer all requests from now on; return the paths of the data files that were read since the last call."""
        return self._tell({"refusal": None, "after": 0})

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _tell(self, state: dict[str, Any]) -> list[str]:
        return requests.post(self.url + CONTROL, json=state, timeout=10).json()


class Application:
    """moto's application, before which requests may be refused."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        self.moto = DomainDispatcherApplication(create_backend_app)
        self.state: dict[str, Any] = {"refusal": None, "after": 0}
        self.read: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == CONTROL:
            self.state = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            read, self.read = self.read, []
            return _answer(start_response, "200 OK", json.dumps(sorted(set(read))).encode())
        is_data = path.endswith(".parquet") and "_delta_log" not in path
        if is_data and method == "GET":
            self.read.append(path)
        counts = is_data or not self.state["after"]
        if self.state["refusal"] and counts and len(set(self.read)) >= self.state["after"]:
            status, code, message = self.state["refusal"]
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            return _answer(start_response, f"{status} Refused", b"" if method == "HEAD" else body)
        return self.moto(environ, start_response)


def _answer(start_response: Callable[..., Any], status: str, body: bytes) -> list[bytes]:
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, Application(), threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
