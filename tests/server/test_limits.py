"""One client cannot starve the others: real server processes and real sockets, on loopback."""

import asyncio
import gzip
import os
import resource
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import numpy as np
import psutil
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from nightly_server import limits
from nightly_server.bodies import scratch_file
from nightly_server.errors import ServingError
from nightly_server.json_text import json_text
from nightly_server.processes import Processes
from tests.support.servers import Server, list_of, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MB = 2**20
PREDICT = "half_plus_two:predict"
FILES, CONNECTIONS = 600, 172  # open files of the server, and what they leave to each API


@pytest.fixture(scope="module")
def small(base, tmp_path_factory) -> Iterator[Server]:
    """Requests of 2 s at most, and few open files."""
    config = tmp_path_factory.mktemp("limits") / "models.config"
    config.write_text(list_of(*base))
    server = Server(f"--model_config_file={config}", "--rest_api_timeout_in_ms=2000")
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    yield server.wait_ready()
    assert server.stop() == 0, "".join(server.log)[-4000:]


def answers(server: Server) -> bool:
    try:
        answer = server.post(PREDICT, {"instances": [2.0]})
    except requests.ConnectionError:
        return False
    return answer.status_code == 200 and answer.json() == {"predictions": [3.0]}


def connect(address: str, sent: bytes = b"") -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(sent)
    return connection


def received(connection: socket.socket, seconds: float = 30) -> bytes:
    """All until the server closes. Raises TimeoutError if it does not."""
    parts = []
    connection.settimeout(seconds)
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def while_running(work: list[Callable[[], object]], server: Server) -> tuple[list, int]:
    """The results of `work`, done at once, and how many small requests were answered beside it."""
    count = 0
    with ThreadPoolExecutor(len(work)) as clients:
        calls = [clients.submit(each) for each in work]
        while not all(call.done() for call in calls):
            assert answers(server)
            count += 1
        return [call.result() for call in calls], count


def test_an_error_quotes_the_beginning_of_a_value():
    assert json_text([1, "é"]) == '[\n    1,\n    "é"\n]'
    for value in (["é" * 1000], list(range(10**6)), "x" * 10**6, {"k" * 10**6: 1}):
        text = json_text(value)
        assert text.endswith("…")
        assert 250 <= len(text.encode()) <= limits.QUOTED_BYTES
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert len(json_text(deep)) < limits.QUOTED_BYTES


def test_errors_of_large_bodies_are_short_and_keep_nobody_waiting(server):
    values = b"[" + b"1.5," * 500_000 + b"1.5]"
    bodies = [values, b'{"examples": ' + values + b"}", b'{"instances": {"x": ' + values + b"}}", values[:-1]]
    bodies += [b'{"instances": [{"%s": 1}]}' % (b"k" * 2 * MB), b'{"signature_name": "%s", "inputs": 1}' % (b"s" * MB)]
    results, count = while_running([lambda body=body: server.post(PREDICT, data=body) for body in bodies], server)
    assert [answer.status_code for answer in results] == [400] * len(bodies)
    assert max(len(answer.content) for answer in results) < 1000
    assert count > 0


def test_what_tensorflow_quotes_is_cut_too(server):
    wrong = predict_pb2.PredictRequest()
    wrong.model_spec.name = "half_plus_two"
    wrong.model_spec.signature_name = "regress_x_to_y"
    wrong.inputs["inputs"].CopyFrom(tf.make_tensor_proto([b"no example" * 10_000]))
    for change in (lambda: None, lambda: setattr(wrong.model_spec, "signature_name", "s" * MB)):
        change()
        with pytest.raises(grpc.RpcError) as refused:
            server.predictions.Predict(wrong, timeout=30)
        assert refused.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
        assert 0 < len(refused.value.details().encode()) < 1000


def test_large_texts_are_read_and_written_by_other_processes(server):
    process = psutil.Process(server.process.pid)
    body = b'{"instances": [' + b"1.25," * 2_000_000 + b"1.25]}"
    before = process.cpu_times().user
    answer = server.post(PREDICT, data=body)
    assert answer.status_code == 200
    assert answer.content.count(b"2.625") == 2_000_001
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert process.cpu_times().user - before < 2  # it takes 5 s of them


def test_small_requests_are_answered_beside_large_ones(server):
    rows = b'{"signature_name": "length", "inputs": {"rows": [[' + b"1.25," * 1_000_000 + b"1.25]]}}"
    results, count = while_running([lambda: server.post("shapes:predict", data=rows)] * 6, server)
    assert [answer.json() for answer in results] == [{"outputs": {"batch": [1], "total": [1250001.25]}}] * 6
    assert count >= 5


def test_large_and_small_answers_are_the_same(server):
    for api, values, signature in (
        ("classify", "examples", "classify_labels"),
        ("regress", "examples", "regress_x_to_y"),
    ):
        text = b'{"signature_name": "%s", "%s": [' % (signature.encode(), values.encode())
        one = server.post(f"half_plus_two:{api}", data=text + b'{"x": 2.0}]}').json()["results"]
        many = server.post(f"half_plus_two:{api}", data=text + b'{"x": 2.0},' * 60_000 + b'{"x": 2.0}]}')
        assert many.json()["results"] == one * 60_001


@pytest.mark.parametrize("text", [b"[1.5,", b'{"instances": ["x"', b'{"signature_name": "no", "instances": [1.5'])
def test_large_bodies_are_refused_as_small_ones(server, text):
    end = b"]" if text.startswith(b"[") else b"]}"
    few, many = (
        server.post(PREDICT, data=text + b"," * (text[-1:] != b",") + b"1.5," * n + b"2" + end) for n in (2, MB)
    )
    assert few.status_code == many.status_code == 400
    assert many.json()["error"][:25] == few.json()["error"][:25]


def test_requests_that_never_arrive_are_ended(small):
    header = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\n"
    with ExitStack() as stack:
        nothing = [stack.enter_context(connect(small.url)) for _ in range(50)]
        halves = [stack.enter_context(connect(small.url, header[:-10])) for _ in range(50)]
        bodies = [stack.enter_context(connect(small.url, header + b"Content-Length: 9\r\n\r\n{")) for _ in range(50)]
        assert answers(small)
        assert {received(each) for each in nothing + halves} == {b""}
        assert {received(each).split(b"\r\n")[0] for each in bodies} == {b"HTTP/1.1 408 Request Timeout"}


def test_a_body_that_trickles_in_is_ended(small):
    header = b"POST /v1/models/half_plus_two:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(small.url, header) as connection:

        def trickle() -> None:
            try:
                for _ in range(300):
                    connection.sendall(b"1\r\n \r\n")
                    time.sleep(0.1)
            except OSError:
                pass

        threading.Thread(target=trickle, daemon=True).start()
        assert received(connection).startswith(b"HTTP/1.1 408 ")


def test_connections_are_bounded(small):
    with ExitStack() as stack:
        request = b"GET /v1/models/half_plus_two HTTP/1.1\r\nHost: x\r\n\r\n"
        for _ in range(CONNECTIONS):
            stack.enter_context(admitted(small.url, request))
        for _ in range(20):
            with connect(small.url) as refused:
                assert received(refused).startswith(b"HTTP/1.1 503 ")
        grpc_kept = [stack.enter_context(connect(small.grpc_address)) for _ in range(CONNECTIONS + 20)]
        wait_for(lambda: sum(is_closed(each) for each in grpc_kept) >= 20)
    wait_for(lambda: answers(small))


def admitted(address: str, request: bytes, seconds: float = 60) -> socket.socket:
    """A connection that answers 200, once the connections of the tests before have given their room back."""
    end = time.monotonic() + seconds
    while (connection := connect(address, request)).recv(12) != b"HTTP/1.1 200":
        connection.close()
        assert time.monotonic() < end, "there is no room for as many connections as there should be"
        time.sleep(0.1)
    return connection


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while part := connection.recv(65536):
            assert part
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_a_body_inflates_to_is_bounded(server, encoding):
    process = psutil.Process(server.process.pid)
    packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    zeros = bytes(MB)
    body = b"".join([*(packer.compress(zeros) for _ in range(600)), packer.flush()])
    before, peak = process.memory_info().rss, 0
    with ThreadPoolExecutor(1) as client:
        call = client.submit(
            requests.post,
            f"{server.url}/v1/models/{PREDICT}",
            data=body,
            headers={"Content-Encoding": encoding},
            timeout=60,
        )
        while not call.done():
            peak = max(peak, process.memory_info().rss)
    assert call.result().status_code == 413
    assert peak - before < 350 * MB
    wait_for(lambda: process.memory_info().rss - before < 60 * MB)


def test_a_compressed_body_may_be_large(server):
    body = gzip.compress(b'{"instances": [' + b"1.25," * 400_000 + b"1.25]}")
    headers = {"Content-Encoding": "gzip"}
    answer = requests.post(f"{server.url}/v1/models/{PREDICT}", data=body, headers=headers, timeout=60)
    assert answer.content.count(b"2.625") == 400_001


def test_without_descriptors_the_server_waits_and_says_so_once_a_second(small):
    process = psutil.Process(small.process.pid)
    with ExitStack() as stack:
        stack.callback(resource.prlimit, small.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        resource.prlimit(small.process.pid, resource.RLIMIT_NOFILE, (process.num_fds(), FILES))
        for _ in range(40):
            stack.enter_context(connect(small.url))
        time.sleep(1)
        seconds, lines, cpu = 4, len(small.log), sum(process.cpu_times()[:2])
        time.sleep(seconds)
        refused = [line for line in small.log[lines:] if "cannot accept" in line and "Too many open files" in line]
        assert 1 <= len(refused) <= seconds + 1
        assert len(small.log) - lines < 10 * seconds  # the look for new versions fails too
        assert sum(process.cpu_times()[:2]) - cpu < seconds / 4
    wait_for(lambda: answers(small))


def settled(process: psutil.Process) -> int:
    """The resident set once it grows no more."""
    sizes = [0, process.memory_info().rss]
    while sizes[-1] - sizes[-2] > MB:
        time.sleep(0.5)
        sizes.append(process.memory_info().rss)
    return sizes[-1]


def test_memory_of_huge_requests_is_given_back(server):
    process = psutil.Process(server.process.pid)
    words = b'{"signature_name": "length", "inputs": {"rows": [[' + b"1.25," * 6_000_000 + b"1.25]]}}"
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "shapes", "length"
    request.inputs["rows"].CopyFrom(tf.make_tensor_proto(np.ones((1, 30 * MB // 4), np.float32)))

    def huge() -> None:
        assert server.post("shapes:predict", data=words).status_code == 200
        server.predictions.Predict(request, timeout=60)

    huge()  # what is imported and built once
    before = settled(process)
    for _ in range(3):
        huge()
    wait_for(lambda: process.memory_info().rss - before < 120 * MB)
    assert [child.status() for child in process.children()] == ["sleeping"]
    assert process.children()[0].children() == []


def die(reading, writing) -> None:
    os._exit(9)


def spin(reading, writing) -> None:
    while True:
        pass


def echo(reading, writing, times: int) -> None:
    writing.write(reading.read() * times)


def refuse(reading, writing) -> None:
    raise ServingError(grpc.StatusCode.NOT_FOUND, "no")


def test_work_in_another_process():
    processes = Processes(seconds=0.5)

    async def outcome(work, *arguments) -> bytes | grpc.StatusCode:
        source = scratch_file()
        source.write(b"ab")
        try:
            with await processes.run(work, source, *arguments) as target:
                return target.read()
        except ServingError as error:
            return error.code

    async def outcomes() -> list:
        return await asyncio.gather(outcome(echo, 3), outcome(refuse), outcome(die), outcome(spin), outcome(echo, MB))

    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    expected = [b"ababab", grpc.StatusCode.NOT_FOUND, exhausted, exhausted, b"ab" * MB]
    assert asyncio.run(asyncio.wait_for(outcomes(), 60)) == expected
    processes.close()
