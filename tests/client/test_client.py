"""The client against a real server: both protocols give the same answers; what fails, how often it is tried."""

import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from nightly.io.paths import ROOT
from nightly_client import Canary, Client, Prediction, PredictionLog, ServingError, VersionStatus, example
from nightly_client import log as log_module
from tests.support.servers import model_config, wait_for

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", autouse=True)
def labels(server):
    """Labels move in two steps: the versions are loaded by now."""
    with Client(f"grpc://{server.grpc_address}") as client:
        wait_for(lambda: [s.state for s in client.status("half_plus").values()] == ["AVAILABLE"] * 2)
        client.reload_config(server.models_config, timeout=30)


@pytest.fixture(params=["rest", "grpc"])
def client(request, server) -> Iterator[Client]:
    address = server.url if request.param == "rest" else f"grpc://{server.grpc_address}"
    with Client(address, retries=0, timeout=30) as client:
        yield client


def over_grpc(client: Client) -> bool:
    return client.address.startswith("grpc")


def test_predictions_in_row_format(client):
    assert client.predict("half_plus", [1.0, 2, 5.0], version=2).values == [2.5, 3.0, 4.5]
    rows = [{"matrix": [1, 2.5], "count": 7, "word": "ä"}, {"matrix": [3, 4], "count": 2**40, "word": b"b"}]
    assert client.predict("shapes", rows).values == [
        {"sums": 3.5, "next": 8, "words": "ä"},
        {"sums": 7.0, "next": 2**40 + 1, "words": "B"},
    ]


def test_bytes_go_and_come_as_bytes(client):
    raw = bytes(range(256))
    assert client.predict("shapes", [raw, b"x"], signature="twice").values == [raw + raw, b"xx"]


def test_classify_and_regress(client):
    rows = [{"x": 1.0}, {"x": 2.0}]
    found = client.classify("half_plus", rows, signature="classify_labels", version=1).values
    assert found == [[("even", 1.5)], [("even", 2.0)]]
    assert client.regress("half_plus", rows, signature="regress_x_to_y", version=1).values == [1.5, 2.0]
    with pytest.raises(TypeError, match="known are"):
        client.regress("half_plus", rows, label_="stable")


def test_a_version_is_addressed_by_number_or_label(client):
    answers = {
        how: client.predict("half_plus", [0.0], **address)
        for how, address in {
            "newest": {},
            "version": {"version": 1},
            "stable": {"label": "stable"},
            "canary": {"label": "canary"},
        }.items()
    }
    assert {how: answer.values for how, answer in answers.items()} == {
        "newest": [2.0],
        "version": [1.0],
        "stable": [1.0],
        "canary": [2.0],
    }
    versions = {how: answer.version for how, answer in answers.items()}
    if over_grpc(client):
        assert versions == {"newest": 2, "version": 1, "stable": 1, "canary": 2}
    else:  # an answer over REST does not say it
        assert versions == {"newest": None, "version": 1, "stable": None, "canary": None}
    with pytest.raises(ValueError, match="not by both"):
        client.predict("half_plus", [0.0], version=1, label="stable")


def test_metadata_and_status_are_the_same_over_both(client):
    found = client.metadata("half_plus", label="stable")
    assert found.version == 1
    assert found.signatures["serving_default"] == {
        "method": "tensorflow/serving/predict",
        "inputs": {"x": {"dtype": "DT_FLOAT", "shape": None}},
        "outputs": {"y": {"dtype": "DT_FLOAT", "shape": None}},
    }
    assert client.metadata("shapes").signatures["length"]["inputs"] == {
        "rows": {"dtype": "DT_FLOAT", "shape": [-1, -1]}
    }
    available = VersionStatus("AVAILABLE", "")
    assert client.status("half_plus") == {2: available, 1: available}
    assert client.status("half_plus", 1) == {1: available}


def test_the_status_of_a_version_that_failed_to_load_has_the_error_and_its_code(server, client, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"this is no model")
    broken = tmp_path.name  # another model each time: a reload waits for new ones only
    configured = server.models_config.rstrip().removesuffix("}") + model_config(broken, tmp_path) + "}"
    with (
        Client(f"grpc://{server.grpc_address}") as loader,
        pytest.raises(ServingError, match="did not become available"),
    ):
        loader.reload_config(configured)
    failed = client.status(broken)[1]
    assert (failed.state, failed.code) == ("END", "DATA_LOSS") and "Can't parse" in failed.error


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda c: c.predict("nothing", [1.0]), "NOT_FOUND"),
        (lambda c: c.predict("half_plus", [1.0], version=9), "NOT_FOUND"),
        (lambda c: c.predict("half_plus", [1.0], label="none"), "INVALID_ARGUMENT"),
        (lambda c: c.predict("half_plus", [1.0], signature="none"), "INVALID_ARGUMENT"),
        (lambda c: c.predict("half_plus", ["text"]), "INVALID_ARGUMENT"),
        (lambda c: c.predict("shapes", [{"count": 1}]), "INVALID_ARGUMENT"),
        (lambda c: c.status("nothing"), "NOT_FOUND"),
        (lambda c: c.regress("half_plus", [{"x": "text"}], signature="regress_x_to_y"), "INVALID_ARGUMENT"),
    ],
)
def test_what_is_wrong_has_the_same_code_over_both(client, call, code):
    with pytest.raises(ServingError) as error:
        call(client)
    assert error.value.code == code and error.value.message


def test_a_configuration_is_reloaded_over_grpc_alone_and_refused_whole(client, server):
    if not over_grpc(client):
        with pytest.raises(ServingError, match="grpc://"):
            client.reload_config(server.models_config)
        return
    with pytest.raises(ServingError) as refused:
        client.reload_config(server.models_config.replace("value: 1 }", "value: 7 }"))
    assert refused.value.code == "FAILED_PRECONDITION"
    assert client.metadata("half_plus", label="stable").version == 1


def test_a_call_ends_at_its_timeout(server):
    address = "http://127.0.0.1:9", "grpc://127.0.0.1:9"
    for each in address:
        began = time.monotonic()
        with Client(each, timeout=0.6, retries=100) as client, pytest.raises(ServingError) as error:
            client.status("half_plus")
        assert error.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert time.monotonic() - began < 2


@contextmanager
def failing_rest(times: int) -> Iterator[tuple[str, list[str]]]:
    """An HTTP server that says 503 so many times, and then answers."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.path)
            failed = len(seen) <= times
            body = json.dumps({"error": "full"} if failed else {"predictions": [1.5]}).encode()
            self.send_response(503 if failed else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as started:
        threading.Thread(target=started.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{started.server_port}", seen
        started.shutdown()


@contextmanager
def failing_grpc() -> Iterator[tuple[str, list[str]]]:
    """A gRPC server that is UNAVAILABLE for whatever it is asked."""
    seen: list[str] = []

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails):
            def fail(_: bytes, context: grpc.ServicerContext) -> bytes:
                seen.append(details.method)
                context.abort(grpc.StatusCode.UNAVAILABLE, "full")

            return grpc.unary_unary_rpc_method_handler(fail)

    started = grpc.server(ThreadPoolExecutor(2), handlers=[Handler()])
    port = started.add_insecure_port("127.0.0.1:0")
    started.start()
    yield f"grpc://127.0.0.1:{port}", seen
    started.stop(None).wait()


def test_what_changes_nothing_is_tried_again_while_the_server_is_full():
    with failing_rest(2) as (address, seen), Client(address) as client:
        assert client.predict("m", [1.0]).values == [1.5]
        assert len(seen) == 3
    with failing_rest(9) as (address, seen), Client(address) as client:
        with pytest.raises(ServingError, match="UNAVAILABLE: full"):
            client.predict("m", [1.0])
        assert len(seen) == 3
    with failing_grpc() as (address, seen), Client(address) as client:
        with pytest.raises(ServingError, match="UNAVAILABLE: full"):
            client.status("m")
        assert len(seen) == 3


def test_a_reload_is_not_tried_again():
    with failing_grpc() as (address, seen), Client(address) as client:
        with pytest.raises(ServingError, match="UNAVAILABLE"):
            client.reload_config("model_config_list {}")
        assert seen == ["/tensorflow.serving.ModelService/HandleReloadConfigRequest"]


def test_a_caller_stays_on_its_side_and_a_larger_share_only_adds_callers():
    callers = [f"user-{i}" for i in range(20_000)]
    few, more = Canary(0.05, "spring"), Canary(0.2, "spring")
    chosen = {caller for caller in callers if few.label(caller) == "canary"}
    assert 0.04 < len(chosen) / len(callers) < 0.06
    assert all(more.label(caller) == "canary" for caller in chosen)
    others = {caller for caller in callers if Canary(0.05, "summer").label(caller) == "canary"}
    assert len(chosen & others) < len(chosen) / 5, "another experiment meets the same callers"
    assert {Canary(0).label(c) for c in callers} == {"stable"} and {Canary(1).label(c) for c in callers} == {"canary"}
    assert Canary(0.5, "fixed").label("user-1") == "canary", "callers change sides between releases of this library"
    with pytest.raises(ValueError, match="0 to 1"):
        Canary(5)


def test_callers_are_split_between_the_labels_and_all_get_stable_without_a_canary(server, client):
    address = client.address
    with Client(address, canary=Canary(0.5, "fixed"), timeout=30) as split:
        sides = {f"user-{i}": split.predict("half_plus", [0.0], caller=f"user-{i}") for i in range(20)}
        assert {answer.label: answer.values for answer in sides.values()} == {"stable": [1.0], "canary": [2.0]}
        assert all(answer.label == Canary(0.5, "fixed").label(caller) for caller, answer in sides.items())
        with pytest.raises(ValueError, match="caller"):
            split.predict("half_plus", [0.0])
        assert split.predict("half_plus", [0.0], label="stable").values == [1.0]

        with Client(f"grpc://{server.grpc_address}", timeout=30) as admin:
            ended = server.models_config.replace('version_labels { key: "canary" value: 2 }', "")
            admin.reload_config(ended)
            try:
                answers = [split.predict("half_plus", [0.0], caller=caller) for caller in sides]
                assert {(a.values[0], a.label) for a in answers} == {(1.0, "stable")}
                with pytest.raises(ServingError):
                    split.predict("half_plus", [0.0], label="canary")
            finally:
                admin.reload_config(server.models_config)


def test_what_is_logged_names_the_version_that_answered_over_both(client, tmp_path):
    with PredictionLog(tmp_path, key=b"0123456789abcdef") as log, Client(client.address, log=log) as logged:
        for label in ("stable", "canary", None):
            answer = logged.predict("half_plus", [{"x": 0.0}, {"x": 4.0}], label=label, caller="ada", ids=["a", "b"])
            assert answer.version == (1 if label == "stable" else 2)
        with pytest.raises(ServingError):
            logged.predict("half_plus", [0.0], label="none")
    records = [record for path in tmp_path.glob("*.tfrecord") for record in log_module.read_tfrecord(path)]
    assert [(r["serving/version"], r["x"], r["prediction/value"], r["serving/id"]) for r in records[:2]] == [
        ([1], [0.0], [1.0], [b"a"]),
        ([1], [4.0], [3.0], [b"b"]),
    ]
    assert [r.get("serving/label") for r in records] == [[b"stable"]] * 2 + [[b"canary"]] * 2 + [None] * 2
    assert {len(r["serving/caller"][0]) for r in records} == {64} and len(records) == 6


def test_a_rest_client_that_logs_follows_a_label_whose_version_has_gone(server, tmp_path):
    with PredictionLog(tmp_path) as log, Client(server.url, log=log) as client:
        client._versions[client_spec("half_plus", "stable")] = (99, time.monotonic() + 60)
        assert client.predict("half_plus", [0.0], label="stable") == Prediction([1.0], 1, "stable")


def client_spec(model: str, label: str):
    from nightly_client.spec import Spec

    return Spec(model, label=label)


@pytest.mark.slow
def test_it_works_beside_tensorflow_in_one_process_and_without_it(server):
    """Its messages have TensorFlow's names, in a pool of their own."""
    code = (
        "import sys\n{first}\nfrom nightly_client import Client, example\n{last}\n"
        f"c = Client('grpc://{server.grpc_address}', timeout=30)\n"
        "assert c.predict('half_plus', [2.0], version=1).values == [2.0]\n"
        "assert c.regress('half_plus', [{{'x': 2.0}}], signature='regress_x_to_y', version=1).values == [2.0]\n"
        "print(*sorted({{'tensorflow', 'numpy'}} & set(sys.modules)))"
    )
    imports = "from tensorflow_serving.apis import predict_pb2, model_management_pb2; import tensorflow"
    for first, last, loaded in (("", "", ""), (imports, "", "numpy tensorflow"), ("", imports, "numpy tensorflow")):
        command = [sys.executable, "-c", code.format(first=first, last=last)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == loaded


def test_an_example_takes_plain_values_and_refuses_others():
    made = example({"a": 1, "b": [1, 2.5], "c": ["x", b"y"], "none": None, "empty": []})
    assert set(made.features.feature) == {"a", "b", "c", "empty"}
    assert list(made.features.feature["b"].float_list.value) == [1.0, 2.5]
    with pytest.raises(TypeError, match="'bad'"):
        example({"bad": {"x": 1}})


@pytest.mark.parametrize(("given", "said"), [({"timeout": 0}, "above 0, not 0"), ({"retries": -1}, "not -1")])
def test_a_client_refuses_numbers_that_make_no_sense(given, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        Client("http://localhost:1", **given)
    with pytest.raises(ValueError, match="above 0, not -1"), Client("http://localhost:1") as client:
        client.predict("taxi", [{"x": 1}], timeout=-1)
    with pytest.raises(ValueError, match="max_bytes is 1 or more"):
        PredictionLog(tmp_path, max_bytes=0)
