"""Files on a web server as a source."""

import datetime as dt
import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nightly.records.connection import Connection
from nightly.records.source_config import FilesSource
from nightly.sources import fetch
from nightly.sources.errors import HttpStatusError, NothingFoundError

WINDOW = {"window_start": dt.datetime(2016, 3, 1, tzinfo=dt.UTC), "window_end": dt.datetime(2016, 3, 4, tzinfo=dt.UTC)}
BODY = gzip.compress(b"day,a\n2016-03-01,1\n")


@pytest.fixture
def web():
    """A server of a dictionary of files, each with an ETag; `asked` has the paths of the bodies sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name, value = server.demands
            body = server.files.get(self.path) if self.headers.get(name, "") == value else None
            unchanged = body and self.headers["If-None-Match"] == f'"{hash(body)}"'
            sent = "" if unchanged or self.command == "HEAD" else self.path
            server.asked.append((sent, self.headers["Authorization"]))
            self.send_response(304 if unchanged else 200 if body else 404)
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
    server.files, server.asked, server.demands = {}, [], ("X-Key", "")
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
