"""The downloader against a real server that does each fault."""

import gzip
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nightly.sources.errors import (
    ChecksumError,
    ConnectionFailedError,
    EmptyBodyError,
    HtmlPageError,
    HttpStatusError,
    IncompleteBodyError,
)
from nightly.sources.http.download import LONGEST_WAIT_SECONDS, download
from tests.support.faulty_server import FaultyServer

CSV = "Date received,Product\n" + "".join(f"1/{1 + n % 28}/2016,Product {n}\n" for n in range(5000))
PLANTED = "planted-secret"


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served.csv").write_text(CSV)
    with FaultyServer(tmp_path / "served.csv") as server:
        yield server


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The seconds waited between attempts, without waiting them."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def fetch(server, tmp_path, **options):
    target = tmp_path / "body" / "complaints.csv"
    return download(server.address, target, params={"format": "csv"}, **{"timeout": 5, "retries": 3, **options})


def assert_whole(answer, tmp_path):
    assert (tmp_path / "body/complaints.csv").read_text() == CSV
    assert not answer.unchanged
    assert [path.name for path in (tmp_path / "body").iterdir()] == ["complaints.csv"]


def assert_nothing_left(tmp_path):
    assert list((tmp_path / "body").iterdir()) == []


def test_a_plain_body(server, tmp_path):
    answer = fetch(server, tmp_path)
    assert_whole(answer, tmp_path)
    assert re.fullmatch('"[0-9a-f]{16}"', answer.fingerprint)
    assert len(server.requests) == 1


def test_a_body_that_has_not_changed_is_not_sent_again(server, tmp_path):
    known = fetch(server, tmp_path).fingerprint
    (tmp_path / "body/complaints.csv").unlink()
    assert fetch(server, tmp_path, known=known).unchanged
    assert_nothing_left(tmp_path)
    assert_whole(fetch(server, tmp_path, known='"of other rows"'), tmp_path)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 425, 429])
def test_a_transient_status_is_tried_again(server, tmp_path, waits, status):
    server.faults.extend([{"fault": "status", "status": status}] * 3)
    assert_whole(fetch(server, tmp_path), tmp_path)
    assert len(server.requests) == 4
    assert waits[0] < waits[1] < waits[2] <= 4


def test_retries_end_with_the_status_the_address_and_the_body(server, tmp_path):
    server.faults.extend([{"fault": "status", "status": 500, "body": "the index is gone"}] * 4)
    with pytest.raises(HttpStatusError, match=rf"{server.address}.*500 Internal Server Error.*the index is gone") as e:
        fetch(server, tmp_path)
    assert e.value.__notes__ == ["Given up after 4 failures in a row."]
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_another_client_error_fails_at_once(server, tmp_path, waits, status):
    server.faults.append({"fault": "status", "status": status, "body": "no such thing"})
    with pytest.raises(HttpStatusError, match=f"{status}.*no such thing"):
        fetch(server, tmp_path)
    assert (len(server.requests), waits) == (1, [])
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize(("asked", "waited"), [("7", 7), ("100000", LONGEST_WAIT_SECONDS)])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured_within_bounds(server, tmp_path, waits, status, asked, waited):
    server.faults.append({"fault": "status", "status": status, "headers": {"Retry-After": asked}})
    assert_whole(fetch(server, tmp_path), tmp_path)
    assert waits == [waited]


def test_retry_after_may_be_a_date(server, tmp_path, waits):
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    server.faults.append({"fault": "status", "status": 503, "headers": {"Retry-After": date}})
    assert_whole(fetch(server, tmp_path), tmp_path)
    assert 25 < waits[0] <= 30


def test_a_broken_body_is_resumed_where_it_broke(server, tmp_path):
    server.faults.append({"fault": "drop", "after": 30_000})
    assert_whole(fetch(server, tmp_path), tmp_path)
    assert server.requests[1]["headers"]["Range"] == "bytes=30000-"
    assert server.requests[1]["headers"]["If-Range"].startswith('"')


def test_a_body_that_breaks_often_arrives_as_long_as_it_grows(server, tmp_path):
    server.faults.extend([{"fault": "drop", "after": 10_000}] * 8)
    assert_whole(fetch(server, tmp_path, retries=1), tmp_path)


def test_a_broken_body_begins_again_where_the_server_cannot_resume(server, tmp_path):
    server.ranges = False
    server.faults.append({"fault": "drop", "after": 30_000})
    assert_whole(fetch(server, tmp_path), tmp_path)


def test_a_body_that_changed_meanwhile_is_not_spliced(server, tmp_path):
    server.faults.extend([{"fault": "drop", "after": 30_000}, {"fault": "changed"}])
    assert_whole(fetch(server, tmp_path), tmp_path)


def test_a_body_that_never_arrives_whole_leaves_nothing(server, tmp_path):
    server.ranges = False
    server.faults.extend([{"fault": "drop"}] * 4)
    with pytest.raises(IncompleteBodyError, match="ended too early"):
        fetch(server, tmp_path)
    assert not (tmp_path / "body/complaints.csv").exists()


KILLED = (
    "import pathlib, sys; from nightly.sources.http.download import download; "
    "download(sys.argv[1], pathlib.Path(sys.argv[2]))"
)


def test_a_killed_process_is_gone_on_with(server, tmp_path, monkeypatch):
    monkeypatch.undo()  # the server's silence is real
    server.faults.append({"fault": "slow", "after": 30_000, "seconds": 10})
    target = tmp_path / "body/complaints.csv"
    with subprocess.Popen([sys.executable, "-c", KILLED, f"{server.address}?format=csv", target]) as process:
        wait_for(lambda: target.with_name("complaints.csv.part").exists())
        wait_for(lambda: target.with_name("complaints.csv.part").stat().st_size == 30_000)
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    assert_whole(fetch(server, tmp_path), tmp_path)
    assert server.requests[1]["headers"]["Range"] == "bytes=30000-"


def test_what_a_killed_process_left_is_not_mixed_with_another_body(server, tmp_path):
    server.faults.extend([{"fault": "drop", "after": 30_000}])
    with pytest.raises(IncompleteBodyError):
        fetch(server, tmp_path, retries=0)
    server.faults.append({"fault": "changed"})
    assert_whole(fetch(server, tmp_path), tmp_path)
    assert server.requests[1]["headers"]["Range"] == "bytes=30000-"


def test_an_expired_token_is_said_and_what_has_arrived_stays(server, tmp_path):
    server.faults.extend([{"fault": "drop", "after": 30_000}, {"fault": "status", "status": 401}])
    with pytest.raises(HttpStatusError, match=r"401 Unauthorized.*wrong or has expired: renew it"):
        fetch(server, tmp_path, headers={"Authorization": "Bearer planted-secret"})
    assert_whole(fetch(server, tmp_path), tmp_path)
    assert server.requests[2]["headers"]["Range"] == "bytes=30000-"


@pytest.mark.parametrize("elsewhere", [True, False])
def test_credentials_follow_no_redirect_to_another_host(server, tmp_path, elsewhere):
    host = server.address.replace("127.0.0.1", "localhost") if elsewhere else server.address
    server.faults.append({"fault": "status", "status": 302, "headers": {"Location": f"{host}?format=csv"}})
    headers = {"Authorization": "Bearer planted-secret", "X-Api-Key": "planted-secret", "Accept": "text/csv"}
    assert_whole(fetch(server, tmp_path, headers=headers), tmp_path)
    assert server.requests[0]["headers"]["X-Api-Key"] == "planted-secret"
    assert ("planted-secret" in server.requests[1]["headers"].values()) is not elsewhere
    assert server.requests[1]["headers"]["Accept"] == "text/csv"


def test_a_user_and_password_in_the_address_are_sent(server, tmp_path):
    address = server.address.replace("://", "://me:planted-secret@")
    download(address, tmp_path / "body/complaints.csv", params={"format": "csv"})
    assert server.requests[0]["headers"]["Authorization"] == "Basic bWU6cGxhbnRlZC1zZWNyZXQ="


def test_secret_parameters_are_in_no_error_and_no_log(server, tmp_path, caplog):
    server.faults.append({"fault": "status", "status": 503})
    with pytest.raises(HttpStatusError, match=r"api_key=\*\*\*") as error:
        download(server.address, tmp_path / "x", params={"api_key": PLANTED}, retries=1)
    with pytest.raises(ConnectionFailedError) as other:
        download(f"http://127.0.0.1:9/?token={PLANTED}", tmp_path / "x", retries=1)
    shown = [*traceback.format_exception(error.value), *traceback.format_exception(other.value), caplog.text]
    assert PLANTED not in "".join(shown)


def test_an_older_whole_file_survives_a_failure(server, tmp_path):
    fetch(server, tmp_path)
    server.faults.extend([{"fault": "drop", "ranges": False}] * 4)
    with pytest.raises(IncompleteBodyError):
        fetch(server, tmp_path)
    assert (tmp_path / "body/complaints.csv").read_text() == CSV


def test_silence_longer_than_the_time_out_is_resumed(server, tmp_path, monkeypatch):
    monkeypatch.undo()  # the server's silence is real
    server.faults.append({"fault": "slow", "after": 30_000, "seconds": 2})
    assert_whole(fetch(server, tmp_path, timeout=0.3), tmp_path)
    assert server.requests[1]["headers"]["Range"] == "bytes=30000-"


def test_no_server_says_where(tmp_path, server):
    with pytest.raises(ConnectionFailedError, match=r"http://127\.0\.0\.1:9/.*ConnectionRefusedError"):
        download("http://127.0.0.1:9/", tmp_path / "body/x", retries=1)


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "text/csv", "application/octet-stream"])
def test_an_html_page_is_refused_whatever_it_calls_itself(server, tmp_path, content_type):
    server.faults.append({"fault": "html", "content_type": content_type})
    with pytest.raises(HtmlPageError, match="We will be back soon"):
        fetch(server, tmp_path)
    assert_nothing_left(tmp_path)


def test_an_empty_body_is_refused(server, tmp_path):
    server.faults.append({"fault": "empty"})
    with pytest.raises(EmptyBodyError):
        fetch(server, tmp_path)
    assert_nothing_left(tmp_path)


def test_a_length_that_is_wrong_once_is_passed_over(server, tmp_path):
    server.faults.append({"fault": "length"})
    assert_whole(fetch(server, tmp_path), tmp_path)


def test_a_length_that_stays_wrong_is_an_error(server, tmp_path):
    server.faults.extend([{"fault": "length", "ranges": False}] * 4)
    with pytest.raises(IncompleteBodyError):
        fetch(server, tmp_path)
    assert not (tmp_path / "body/complaints.csv").exists()


def test_a_wrong_checksum_is_asked_for_again_from_the_start(server, tmp_path):
    server.faults.append({"fault": "checksum"})
    assert_whole(fetch(server, tmp_path), tmp_path)
    assert "Range" not in server.requests[1]["headers"]


def test_a_checksum_that_stays_wrong_is_an_error(server, tmp_path):
    server.faults.extend([{"fault": "checksum"}] * 4)
    with pytest.raises(ChecksumError, match="sha256"):
        fetch(server, tmp_path)
    assert_nothing_left(tmp_path)


def test_gzip_is_verified_as_sent_and_stored_plain(server, tmp_path):
    server.faults.append({"fault": "gzip"})
    assert_whole(fetch(server, tmp_path), tmp_path)


def test_gzip_resumes_as_gzip(server, tmp_path):
    server.faults.extend([{"fault": "gzip", "after": 5000}, {"fault": "gzip"}])
    assert_whole(fetch(server, tmp_path), tmp_path)
    assert server.requests[1]["headers"]["Range"] == "bytes=5000-"


def test_gzip_cannot_go_on_as_plain(server, tmp_path):
    server.faults.append({"fault": "gzip", "after": 5000})
    assert_whole(fetch(server, tmp_path), tmp_path)  # another ETag: the server sends all of it


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [
        ("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==", False),
        ("Digest", "SHA-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", False),
        ("Content-Digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", False),
        ("x-goog-hash", "crc32c=AAAAAA==,md5=1B2M2Y8AsgTpgAmY7PhCfg==", False),
        ("Digest", "unixsum=30637", True),
        ("Content-MD5", "not base64!", True),
    ],
)
def test_every_checksum_header_counts(tmp_path, name, value, good):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"a,b\n")

        def log_message(self, *_):
            pass

    with Serving(Handler) as address:
        if good:
            download(address, tmp_path / "x", retries=0)
            assert (tmp_path / "x").read_text() == "a,b\n"
        else:
            with pytest.raises(ChecksumError):
                download(address, tmp_path / "x", retries=0)


def test_damaged_gzip_is_not_taken(tmp_path):
    damaged = gzip.compress(CSV.encode())[:-20]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(damaged)))
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(damaged)

        def log_message(self, *_):
            pass

    with Serving(Handler) as address, pytest.raises(IncompleteBodyError, match="damaged"):
        download(address, tmp_path / "x", retries=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("whole", [True, False])
def test_a_chunked_body_is_whole_only_with_its_last_chunk(tmp_path, whole):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"6\r\na,b\n1,\r\n" + b"2\r\n2\n\r\n" + (b"0\r\n\r\n" if whole else b""))
            self.close_connection = True

        def log_message(self, *_):
            pass

    with Serving(Handler) as address:
        if whole:
            download(address, tmp_path / "x", retries=0)
            assert (tmp_path / "x").read_text() == "a,b\n1,2\n"
        else:
            with pytest.raises(IncompleteBodyError):
                download(address, tmp_path / "x", retries=0)
            assert list(tmp_path.iterdir()) == []


class Unmarked(BaseHTTPRequestHandler):
    """Closes the connection at the end of the body, and says nothing of its length."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.bodies.pop(0))

    def log_message(self, *_):
        pass


def unmarked(*bodies):
    return Serving(type("Handler", (Unmarked,), {"bodies": list(bodies)}))


WHOLE = b"a,b\n1,2\n3,4\n"


def test_a_body_whose_end_nothing_marks_is_taken_when_it_comes_twice_the_same(tmp_path, waits):
    with unmarked(WHOLE, WHOLE) as address:
        download(address, tmp_path / "x", retries=0)
    assert ((tmp_path / "x").read_bytes(), waits) == (WHOLE, [])


@pytest.mark.parametrize("cut", [-4, -5, -1])
def test_a_connection_that_closes_too_early_is_found_out(tmp_path, cut):
    """Between two rows, too, where nothing in the body tells."""
    with unmarked(WHOLE[:cut], WHOLE, WHOLE) as address:
        download(address, tmp_path / "x", retries=1)
    assert (tmp_path / "x").read_bytes() == WHOLE


def test_a_body_that_always_comes_otherwise_is_not_taken(tmp_path):
    with (
        unmarked(*(WHOLE[:-n] for n in range(1, 5))) as address,
        pytest.raises(IncompleteBodyError, match="without a length and is not the same as before, after 9 bytes"),
    ):
        download(address, tmp_path / "x", retries=1)
    assert list(tmp_path.iterdir()) == []


def test_a_password_in_the_address_is_not_shown(tmp_path):
    with pytest.raises(ConnectionFailedError) as error:
        download("http://someone:secret@127.0.0.1:9/", tmp_path / "x", retries=0)
    assert "secret" not in str(error.value)


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen within ten seconds")


class Serving:
    def __init__(self, handler):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_address[1]}/"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
