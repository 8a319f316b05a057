"""The requests to Airflow: those before `make up` says that it is up, and those on a connection that was closed."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import requests

from local.airflow import FIRST_PATHS, LocalAirflow


def test_what_a_person_asks_first_has_been_asked_as_the_admin_and_an_error_stops_nothing(tmp_path):
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(500 if self.path == FIRST_PATHS[0] else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("localhost", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        airflow = LocalAirflow(tmp_path, port=server.server_port)
        airflow._session.headers["Authorization"] = "Bearer admin"
        airflow._warm()
        server.shutdown()
    assert asked == [(path, "Bearer admin") for path in FIRST_PATHS]


def test_a_request_that_changes_nothing_is_repeated_when_the_connection_was_closed(tmp_path):
    asked = []

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            asked.append(self.command)
            if len(asked) % 2 == 0:  # as a server that stops keeping the connection while a request is on its way
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("localhost", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        airflow = LocalAirflow(tmp_path, port=server.server_port)
        assert airflow.page("/nightly/").ok and airflow.page("/nightly/").ok
        with pytest.raises(requests.ConnectionError):
            airflow.api("post", "dags/taxi_retrain/dagRuns")
        server.shutdown()
    assert asked == ["GET", "GET", "GET", "POST"]
