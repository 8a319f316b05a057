"""A real HTTP server that answers like the consumer complaint search API, and fails on command.

    python tests/support/faulty_server.py --csv PATH --port 0

prints its address and serves until it is stopped. Any path is the API: `format=csv`, `date_received_min` and
`date_received_max` (both inclusive) select rows of the CSV. `POST /faults` with a JSON list queues faults, one for
each of the next requests; `GET /requests` gives the requests so far. In a test:

    with FaultyServer(csv) as server:
        server.faults.append({"fault": "status", "status": 503, "headers": {"Retry-After": "1"}})
        fetch(server.address)
        server.requests[0]["headers"]

    fault           what the next request meets                          with
    status          this status and a short text                         status, headers, body
    drop            the connection breaks in the middle of the body      after (bytes); ranges: false = no resuming
    slow            silence in the middle of the body                    after (bytes), seconds
    html            200 and a page                                       content_type
    empty           200 and no byte
    length          Content-Length says more than comes                  extra (bytes)
    checksum        the digest of another body
    gzip            Content-Encoding: gzip, asked for or not             ranges, after: broken there
    changed         a resumed body has another ETag by now
"""

import argparse
import base64
import collections
import csv
import datetime as dt
import gzip
import hashlib
import io
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

PAGE = b"<!DOCTYPE html><html><body><h1>We will be back soon</h1></body></html>"


class FaultyServer:
    """Serves `rows_of` (a CSV with a `Date received` column) at `address`, in threads of this process."""

    def __init__(self, rows_of: Path, port: int = 0, host: str = "127.0.0.1", max_rows: int = 100_000) -> None:
        self.faults: collections.deque[dict] = collections.deque()
        self.requests: list[dict] = []
        self.max_rows = max_rows  # of one export; more are refused with 400, as the service does
        self.ranges = True
        with rows_of.open(newline="", encoding="utf-8-sig") as file:
            self.header, *self.rows = csv.reader(file)
        column = self.header.index("Date received")
        self.days = [_day(row[column]) for row in self.rows]
        self._server = ThreadingHTTPServer((host, port), type("Handler", (_Handler,), {"faulty": self}))
        self._server.daemon_threads = True
        self.address = "http://{}:{}/api/v1/".format(*self._server.server_address[:2])

    def __enter__(self) -> "FaultyServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve_forever(self) -> None:
        self._server.serve_forever()

    def body(self, first: dt.date, last: dt.date) -> bytes | None:
        """The rows of the days from `first` to `last` as CSV; None when they are too many."""
        chosen = [row for row, day in zip(self.rows, self.days, strict=True) if first <= day <= last]
        if len(chosen) > self.max_rows:
            return None
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *chosen])
        return text.getvalue().encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faulty: FaultyServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/requests":
            return self._send(200, {"Content-Type": "application/json"}, json.dumps(self.faulty.requests).encode())
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        self.faulty.requests.append({"path": parts.path, "query": query, "headers": dict(self.headers)})
        fault = self.faulty.faults.popleft() if self.faulty.faults else {}
        kind = fault.get("fault", "")
        if kind == "status":
            headers = {"Content-Type": "text/plain", **fault.get("headers", {})}
            return self._send(fault["status"], headers, fault.get("body", "this failure was asked for").encode())
        if kind == "html":
            return self._send(200, {"Content-Type": fault.get("content_type", "text/html")}, PAGE)
        if kind == "empty":
            return self._send(200, {"Content-Type": "text/csv"}, b"")
        if query.get("format") != "csv":
            return self._send(400, {"Content-Type": "application/json"}, b'{"format": ["only csv is served here"]}')
        first = dt.date.fromisoformat(query.get("date_received_min", "0001-01-01"))
        last = dt.date.fromisoformat(query.get("date_received_max", "9999-12-31"))
        body = self.faulty.body(first, last)
        if body is None:
            return self._send(400, {"Content-Type": "application/json"}, b'{"size": ["too many complaints"]}')
        return self._send_body(body, fault, kind)

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.faulty.faults.extend(given)
        self._send(200, {"Content-Type": "application/json"}, json.dumps(len(self.faulty.faults)).encode())

    def _send_body(self, body: bytes, fault: dict, kind: str) -> None:
        headers = {"Content-Type": "text/csv"}
        if kind == "gzip":
            body = gzip.compress(body, mtime=0)
            headers["Content-Encoding"] = "gzip"
        digest = hashlib.sha256(body + (b"!" if kind == "checksum" else b"")).digest()
        headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()[:16]}{kind if kind == "changed" else ""}"'
        headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(digest).decode()}:"
        if self.headers.get("If-None-Match") == headers["ETag"]:
            return self._send(304, {"ETag": headers["ETag"]}, b"")
        status, start = 200, 0
        wanted = self.headers.get("Range", "")
        if self.faulty.ranges and fault.get("ranges", True):
            headers["Accept-Ranges"] = "bytes"
            if wanted and self.headers.get("If-Range") == headers["ETag"]:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(body):
                    return self._send(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
                status = 206
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.send_response(status)
        rest = body[start:]
        announced = len(rest) + (fault.get("extra", 100) if kind == "length" else 0)
        for name, value in {**headers, "Content-Length": announced}.items():
            self.send_header(name, str(value))
        self.end_headers()
        cut = fault.get("after", len(rest) // 2 if kind in ("drop", "slow") else len(rest))
        self.wfile.write(rest[:cut])
        self.wfile.flush()
        if kind == "slow":
            time.sleep(fault.get("seconds", 5))
        if kind in ("drop", "length") or (cut < len(rest) and kind == "gzip"):
            self.close_connection = True
            # FIN, or the peer would see the kernel drop what it has not read yet.
            self.connection.shutdown(socket.SHUT_WR)
            return None
        self.wfile.write(rest[cut:])
        return None

    def _send(self, status: int, headers: dict, body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def send_response(self, code: int, message: str | None = None) -> None:
        super().send_response(code, message)
        if self.command == "GET" and self.faulty.requests:
            self.faulty.requests[-1].setdefault("status", int(code))

    def log_message(self, *_: object) -> None:
        """The requests are kept in `requests`; the terminal stays quiet."""

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client gave up, as it should


def _day(text: str) -> dt.date:
    """7/29/2013 as in the bureau's older exports, or the ISO date of the newer ones."""
    month, _, rest = text.partition("/")
    if not rest:
        return dt.date.fromisoformat(text[:10])
    day, year = rest.split("/")
    return dt.date(int(year), int(month), int(day))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--max-rows", type=int, default=100_000, help="more rows than this are refused with 400")
    given = parser.parse_args()
    server = FaultyServer(given.csv, given.port, given.host, given.max_rows)
    print(server.address, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
