"""Files on a web server as a source."""

import datetime as dt
import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nightly.io.paths import python_path
from nightly.records.connection import Connection
from nightly.records.source_config import FilesSource
from nightly.sources import fetch
from nightly.sources.errors import HttpStatusError, NothingFoundError

WINDOW = {"window_start": dt.datetime(2016, 3, 1, tzinfo=dt.UTC), "window_end": dt.datetime(2016, 3, 4, tzinfo=dt.UTC)}
BODY = gzip.compress(b"day,a\n2016-03-01,1\n")


@pytest.fixture
def web():
    """A server of a dictionary of files, each with an ETag; `asked` has the paths of the bodies sent.

    `broken` files answer 500, `connections` counts all connections, and `most` the requests at the same time.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            super().setup()
            server.connections += 1

        def do_GET(self):
            with counted:
                server.now += 1
                server.most = max(server.most, server.now)
            self.answer()
            with counted:
                server.now -= 1

        def answer(self):
            name, value = server.demands
            body = server.files.get(self.path) if self.headers.get(name, "") == value else None
            unchanged = body and self.headers["If-None-Match"] == f'"{hash(body)}"'
            sent = "" if unchanged or self.command == "HEAD" else self.path
            server.asked.append((sent, self.headers["Authorization"]))
            self.send_response(500 if self.path in server.broken else 304 if unchanged else 200 if body else 404)
            body = b"" if unchanged else body or b"not here"
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hash(body)}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.broken, server.asked, server.demands = {}, set(), [], ("X-Key", "")
    server.connections = server.now = server.most = 0
    server.daemon_threads, counted = True, threading.Lock()
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_file_a_day_of_which_those_that_are_unchanged_are_not_fetched_again(web, tmp_path, caplog):
    web.files = {f"/trips/2016-03-0{day}.csv.gz?v=*": BODY + bytes(day) for day in (1, 3)}
    config = FilesSource(path=web.address + "/trips/{date:%Y-%m-%d}.csv.gz?v=*", connection="web")
    connection = Connection(conn_type="http", password="planted-secret")

    def night(run_id):
        web.asked.clear()
        found = fetch(config, folder=tmp_path, connection=connection, run_id=run_id, **WINDOW)
        return found, [path for path, _ in web.asked if path]

    first, _ = night("first")
    assert [file.origin for file in first.files] == [web.address + path for path in web.files]
    assert [file.path.endswith(".csv.gz") for file in first.files] == [True, True]
    assert {authorization for _, authorization in web.asked} == {"Bearer planted-secret"}
    assert "1 dates of the window have no file" in caplog.text
    web.files["/trips/2016-03-03.csv.gz?v=*"] = BODY
    second, asked = night("second")
    assert second.reused == 1
    assert "/trips/2016-03-01.csv.gz?v=*" not in asked
    assert "/trips/2016-03-03.csv.gz?v=*" in asked
    del web.files["/trips/2016-03-01.csv.gz?v=*"]
    third, _ = night("third")
    assert (third.removed, third.revised) == ([f"{web.address}/trips/2016-03-01.csv.gz?v=*"], [])
    assert night("fourth")[0].revision == ""


def test_hours_are_asked_for_on_a_few_connections(web, tmp_path, caplog):
    hours = [dt.datetime(2016, 3, 1, tzinfo=dt.UTC) + dt.timedelta(hours=number) for number in range(24 * 30)]
    web.files = {f"/{hour:%Y/%m/%d/%H}.csv": f"day,a\n{hour:%Y-%m-%d},{hour:%H}\n".encode() for hour in hours[:300]}
    config = FilesSource(path=web.address + "/{date:%Y/%m/%d/%H}.csv")
    window = {"window_start": hours[0], "window_end": hours[-1] + dt.timedelta(hours=1)}
    found = fetch(config, folder=tmp_path, **window)
    assert [file.origin for file in found.files] == [web.address + path for path in web.files], "in their order"
    assert 1 < web.most <= 8 and web.connections <= 8
    assert len(web.asked) == len(hours)
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    missing = [f"{web.address}/{hour:%Y/%m/%d/%H}.csv" for hour in hours[300:305]]
    assert warning.startswith(f"420 dates of the window have no file: {', '.join(missing)}"), "in their order"


def test_what_other_connections_have_fetched_when_one_fails_is_kept(web, tmp_path, monkeypatch):
    monkeypatch.setattr("nightly.sources.http.download.FIRST_WAIT_SECONDS", 0)
    web.files = {f"/2016-03-0{day}.csv": f"day,a\n2016-03-0{day},1\n".encode() for day in (1, 2, 3)}
    web.broken = {"/2016-03-02.csv"}
    config = FilesSource(path=web.address + "/{date:%Y-%m-%d}.csv")
    with pytest.raises(HttpStatusError, match=r"2016-03-02\.csv answered 500"):
        fetch(config, folder=tmp_path, **WINDOW)
    web.broken = set()
    web.asked.clear()
    assert len(fetch(config, folder=tmp_path, **WINDOW).files) == 3
    assert [path for path, _ in web.asked] == ["/2016-03-02.csv"]


INTERRUPTED = """
import datetime as dt, sys
from pathlib import Path
from nightly.records.source_config import FilesSource
from nightly.sources import fetch

address, folder = sys.argv[1:]
window = {"window_start": dt.datetime(2016, 3, 1, tzinfo=dt.UTC), "window_end": dt.datetime(2016, 3, 4, tzinfo=dt.UTC)}
fetch(FilesSource(path=address + "/{date:%Y-%m-%d}.csv"), folder=Path(folder), **window)
"""


@pytest.mark.slow
def test_an_interrupt_does_not_wait_for_a_server_that_does_not_answer(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        child = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, address, tmp_path],
            env=os.environ | {"PYTHONPATH": python_path()},
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        silent.accept()
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors, errors


def test_secrets_of_the_url_and_the_connection_are_sent_and_in_no_origin_and_no_log(web, tmp_path, caplog):
    web.files = {f"/get?key=planted-2016-03-0{day}&sig=planted": BODY + bytes(day) for day in (1, 2)}
    web.demands = ("X-Key", "planted-3")
    config = FilesSource(path=web.address + "/get?key=planted-{date:%Y-%m-%d}&sig=planted", format="csv")
    connection = Connection(extra={"headers": {"X-Key": "planted-3"}})
    found = fetch(config, folder=tmp_path, connection=connection, **WINDOW)
    assert [file.origin for file in found.files] == [
        f"{web.address}/get?key=***&sig=***#2016-03-0{day}T00" for day in (2, 3)
    ]
    assert "planted" not in found.model_dump_json() + caplog.text


def test_what_is_wrong_is_one_sentence(web, tmp_path):
    with pytest.raises(HttpStatusError, match="404"):
        fetch(FilesSource(path=web.address + "/absent.csv"), folder=tmp_path, **WINDOW)
    with pytest.raises(NothingFoundError, match=r"/export is not of a kind.*source\.format"):
        fetch(FilesSource(path=web.address + "/export?id=3.csv"), folder=tmp_path, **WINDOW)
