"""What `make up` does before it says that Airflow is up."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

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
