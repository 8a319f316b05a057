"""A real HTTP API for rows with a `day`: JSON, JSON lines or CSV, by window, in pages of each kind.

with PagedApi(rows, paging="cursor") as api:
    api.address     # http://127.0.0.1:PORT/trips?from=2016-01-01&until=2016-01-03 (exclusive)
    api.requests    # the queries so far
"""

import csv
import io
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit


class PagedApi:
    def __init__(self, rows: list[dict], *, paging: str = "", size: int = 3) -> None:
        self.rows, self.paging, self.size = rows, paging, size
        self.requests: list[dict] = []
        self.headers: list[dict] = []
        self.password = ""  # a bearer token that is required
        self.expires_after: int | None = None  # requests, after which the token is refused
        self.on_request: Callable[[int], object] = lambda number: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": self}))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/trips"

    def __enter__(self) -> "PagedApi":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: PagedApi

    def do_GET(self) -> None:
        api, query = self.api, dict(parse_qsl(urlsplit(self.path).query))
        api.requests.append(query)
        api.headers.append(dict(self.headers))
        api.on_request(len(api.requests))
        expired = api.expires_after is not None and len(api.requests) > api.expires_after
        if api.password and (expired or self.headers.get("Authorization") != f"Bearer {api.password}"):
            return self._send(401, b'{"error": "the token has expired"}', "application/json")
        rows = [r for r in api.rows if query.get("from", "") <= r["day"][:10] < query.get("until", "9")]
        start = {
            "": lambda: 0,
            "page": lambda: (int(query.get("page", 1)) - 1) * api.size,
            "offset": lambda: int(query.get("offset", 0)),
        }.get(api.paging, lambda: int(query.get("token", 0)))()
        size = api.size if api.paging else len(rows)
        page, more = rows[start : start + size], start + size < len(rows)
        address = f"/trips?{urlencode({**query, 'token': start + size})}" if more else None
        links = {"Link": f'<{address}>; rel="next", </trips>; rel="first"'} if api.paging == "link" and more else {}
        if query.get("format") == "csv":
            text = io.StringIO()
            writer = csv.DictWriter(text, list(api.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(page)
            return self._send(200, text.getvalue().encode(), "text/csv", links)
        if query.get("format") == "jsonl":
            body = "".join(json.dumps(row) + "\n" for row in page)
            return self._send(200, body.encode(), "application/x-ndjson", links)
        if api.paging in ("", "link"):
            return self._send(200, json.dumps(page).encode(), "application/json", links)
        following = {"next": address, "cursor": str(start + size) if more else ""}.get(api.paging)
        document = {"meta": {"total": len(rows), "next": following}, "data": {"items": page, "errors": []}}
        return self._send(200, json.dumps(document).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The requests are kept in `requests`."""
