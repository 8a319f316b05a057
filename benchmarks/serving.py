"""The embedded model server over REST and gRPC, with and without batching, against a plain Flask endpoint.

All serve the same model, trained here, and get the same rows from the same threads, in turns. A client sends its next
request after the response. Every response is compared with the SavedModel's predictions.
"""

import http.client
import itertools
import json
import math
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pyarrow.csv

from benchmarks import steps
from benchmarks.common import Goal, Result, forked, interleaved, main, say, warm
from benchmarks.training import TO_TRANSFORM
from local.child import Child
from local.serving import LocalModelServer
from nightly.io.paths import ROOT, python_path

ROWS, TRAIN_STEPS = 20_000, 50
ROUNDS, SECONDS = 7, 2.0  # of each side, for each size and number of clients
SIZES, CLIENTS = (1, 32), (1, 16)
VERSION = "1700000000"
TOLERANCE = 1e-5
START_SECONDS = 120

Send = Callable[[int], bytes]  # sends request number n and returns the response


def run(quick: bool, folder: Path) -> Result:
    warm()
    rounds, seconds = (1, 0.3) if quick else (ROUNDS, SECONDS)
    model = _trained(folder)
    rows, expected = forked(_rows_and_answers, model, folder).value
    goals, table, runs = [], [], []
    with _servers(model, folder) as sides:
        for size, clients in itertools.product(SIZES, CLIENTS):
            batches = [rows[first : first + size] for first in range(0, len(rows), size)]
            predictions = [expected[first : first + size] for first in range(0, len(rows), size)]
            turns = {name: _turn(connect, batches, predictions, clients, seconds) for name, connect in sides.items()}
            interleaved(1, **turns)  # connections, first runs of each size
            latencies_by_side = interleaved(rounds, **turns)
            for name, turns_taken in latencies_by_side.items():
                latencies = sorted(itertools.chain.from_iterable(turns_taken))
                per_second = statistics.median(len(turn) / seconds for turn in turns_taken)
                row = {"rows": size, "clients": clients, "server": name, "requests/s": round(per_second)}
                row |= {"p50, ms": _ms(latencies, 0.5), "p99, ms": _ms(latencies, 0.99)}
                table.append(row)
                runs += [row | {"round": number, "requests": len(turn)} for number, turn in enumerate(turns_taken)]
                say("%s", row)
            other, ours = latencies_by_side["Flask"], latencies_by_side["REST" if clients == 1 else "REST, batching"]
            # Neighbouring turns see the same machine: the ratio of each pair, then their median.
            ratio = statistics.median(len(a) / len(b) for a, b in zip(ours, other, strict=True))
            what = f"REST against Flask, {size} rows, {clients} clients" + (" (batching)" if clients > 1 else "")
            goals.append(Goal(f"requests a second: {what}", round(ratio, 2), "×", at_least=1))
            if clients == 1:
                goals += [_batching_alone(latencies_by_side, api, size) for api in ("REST", "gRPC")]
    return Result(goals, {"Serving the complaints model": table}, runs)


def _batching_alone(latencies_by_side: dict[str, list], api: str, size: int) -> Goal:
    """Return the goal for the cost of batching to a single client, whose requests never share a batch."""
    pairs = zip(latencies_by_side[f"{api}, batching"], latencies_by_side[api], strict=True)
    ratio = statistics.median(len(batching) / len(plain) for batching, plain in pairs)
    return Goal(
        f"requests a second: {api}, batching against none, {size} rows, 1 client", round(ratio, 2), "×", at_least=0.85
    )


def _trained(folder: Path) -> Path:
    night = steps.planned(folder, ROWS, TRAIN_STEPS)
    steps.run(folder, night, (*TO_TRANSFORM, "trainer"))
    (saved,) = (steps.paths_of(folder).pipeline / "complaints/trainer").rglob("Format-Serving/saved_model.pb")
    return saved.parent


def _rows_and_answers(model: Path, folder: Path) -> tuple[list[dict[str, str]], list[float]]:
    import tensorflow as tf

    predict = tf.saved_model.load(str(model)).signatures["raw_features"]
    columns = list(predict.structured_input_signature[1])
    table = pyarrow.csv.read_csv(folder / "source/complaints.csv").slice(0, 64).select(columns)
    rows = [{name: value or "" for name, value in row.items()} for row in table.to_pylist()]
    answers = predict(**{name: tf.constant([row[name] for row in rows]) for name in columns})
    return rows, answers["probability"].numpy().ravel().tolist()


@contextmanager
def _servers(model: Path, folder: Path) -> Iterator[dict[str, Callable]]:
    """Yield, by the name of each side, a function that connects a client for a list of requests."""
    (folder / "models/complaints").mkdir(parents=True)
    (folder / "models/complaints" / VERSION).symlink_to(model)
    paths = steps.paths_of(folder)
    flags = {"model_name": "complaints", "model_base_path": folder / "models/complaints"}
    batching = {"enable_batching": "true", "batching_parameters_file": ROOT / "server/nightly_server/batching.config"}
    plain = LocalModelServer(paths, folder / "server.log", **flags)
    batched = LocalModelServer(paths, folder / "batching.log", **flags, **batching)
    with plain.running(), batched.running(), _flask(model, folder / "flask.log") as flask_address:
        yield {
            "Flask": lambda batches: _http(flask_address, "/predict", batches),
            "REST": lambda batches: _http(plain.rest, "/v1/models/complaints:predict", batches),
            "REST, batching": lambda batches: _http(batched.rest, "/v1/models/complaints:predict", batches),
            "gRPC": lambda batches: _grpc(plain.grpc, batches),
            "gRPC, batching": lambda batches: _grpc(batched.grpc, batches),
        }


@contextmanager
def _flask(model: Path, log: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "benchmarks.flask_endpoint", str(model), address.split(":")[1]]
    child = Child(command, log, {**os.environ, "PYTHONPATH": python_path()})
    try:
        if not child.wait_for(lambda: _accepts(address), START_SECONDS):
            raise RuntimeError(f"the Flask endpoint did not start:\n{child.last_lines(20)}")
        yield address
    finally:
        child.stop()


def _accepts(address: str) -> bool:
    try:
        socket.create_connection(address.split(":"), timeout=1).close()
    except OSError:
        return False
    return True


def _http(address: str, path: str, batches: list[list[dict]]) -> tuple[Send, Callable[[bytes], list[float]]]:
    bodies = [json.dumps({"signature_name": "raw_features", "instances": rows}).encode() for rows in batches]
    connection = http.client.HTTPConnection(address, timeout=60)

    def send(number: int) -> bytes:
        connection.request("POST", path, bodies[number], {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"{address}{path} answered {response.status}: {answer[:500]!r}")
        return answer

    return send, lambda answer: [value for (value,) in json.loads(answer)["predictions"]]


def _grpc(address: str, batches: list[list[dict]]) -> tuple[Send, Callable[[bytes], list[float]]]:
    from nightly_client.protos import message

    messages = []
    for rows in batches:
        request = message("PredictRequest")()
        request.model_spec.name, request.model_spec.signature_name = "complaints", "raw_features"
        for name in rows[0]:
            tensor = request.inputs[name]
            tensor.dtype = 7  # DT_STRING
            tensor.tensor_shape.dim.add(size=len(rows))
            tensor.string_val.extend(row[name].encode() for row in rows)
        messages.append(request.SerializeToString())
    channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
    # Sends and receives bytes, so that the client needs little time.
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")

    def send(number: int) -> bytes:
        return call(messages[number], timeout=60)

    def values(answer: bytes) -> list[float]:
        return list(message("PredictResponse").FromString(answer).outputs["probability"].float_val)

    return send, values


def _turn(
    connect: Callable, batches: list, expected: list[list[float]], clients: int, seconds: float
) -> Callable[[int], list[float]]:
    """Return one side's turn: `clients` threads send requests for `seconds`; it returns all latencies."""
    senders = [connect(batches) for _ in range(clients)]

    def turn(_: int) -> list[float]:
        latencies: list[list[float]] = [[] for _ in senders]
        answers: list[set[tuple[int, bytes]]] = [set() for _ in senders]
        failures: list[BaseException] = []
        end = time.perf_counter() + seconds

        def ask(position: int) -> None:
            send = senders[position][0]
            try:
                for count in itertools.count(position):
                    number, began = count % len(batches), time.perf_counter()
                    if began >= end:
                        return
                    answer = send(number)
                    latencies[position].append(time.perf_counter() - began)
                    answers[position].add((number, answer))
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=ask, args=(position,)) for position in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        _check(set.union(*answers), senders[0][1], expected)
        return list(itertools.chain.from_iterable(latencies))

    return turn


def _check(
    answers: set[tuple[int, bytes]], values: Callable[[bytes], list[float]], expected: list[list[float]]
) -> None:
    """Raise RuntimeError unless each request's answer has the expected values."""
    for number, answer in answers:
        if not np.allclose(values(answer), expected[number], rtol=0, atol=TOLERANCE):
            raise RuntimeError(f"request {number} was answered {values(answer)}, not {expected[number]}")


def _ms(latencies: list[float], quantile: float) -> float:
    return round(latencies[math.ceil(quantile * len(latencies)) - 1] * 1e3, 2)


if __name__ == "__main__":
    main(run)
