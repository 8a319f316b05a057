"""Starting, flags, the polled configuration file, and batching."""

import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from nightly_server.flags import parse_flags
from tests.support.servers import ROOT, Server, list_of, model_config, release, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def run_to_its_end(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "nightly_server", "--port=0", "--max_num_load_retries=0", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("flag", "text", "message", "problem"),
    [
        (
            "model_config_file",
            "improperly formatted file",
            "ModelServerConfig",
            '1:1: Message type "tensorflow.serving.ModelServerConfig" has no field named "improperly".',
        ),
        (
            "model_config_file",
            f"model_config_list {{ config {{ model_type: {2**64} }} }}",
            "ModelServerConfig",
            f"Value out of range: {2**64}",
        ),
        ("model_config_file", b"\xff", "ModelServerConfig", "'utf-8' codec can't decode byte 0xff"),
        ("monitoring_config_file", "enable: true", "MonitoringConfig", "1:1: Message type"),
    ],
)
def test_a_file_that_is_no_config_ends_the_start(tmp_path, flag, text, message, problem):
    path = tmp_path / "bad.config"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    more = [] if flag == "model_config_file" else ["--model_base_path=/m"]
    ended = run_to_its_end(f"--{flag}={path}", *more)
    assert ended.returncode == 1
    assert (
        f"Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '{path}': Error parsing text-format "
        f"tensorflow.serving.{message}: {problem}"
    ) in ended.stderr


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ([], "give --model_config_file, or --model_base_path"),
        (
            ["--model_base_path=/m", "--batching_parameters_file=b"],
            "--batching_parameters_file needs --enable_batching",
        ),
        (["--model_base_path=/m", "--enable_batching=perhaps"], "'perhaps' is not true or false"),
        (["--model_base_path=/m", "--unknown"], "unrecognized arguments: --unknown"),
        (["--model_base_path=/m", "--enable_batch"], "--enable_batch (did you mean --enable_batching?)"),
        (["--model_base_path=/m", "--ssl_config_file=s"], "leave it out, or run TensorFlow Serving"),
        (["--model_base_path=/m", "--grpc_channel_arguments=a"], "'a' is not key=value"),
    ],
)
def test_wrong_flags_are_refused(flags, text):
    ended = run_to_its_end(*flags)
    assert ended.returncode == 2
    assert text in ended.stderr


def test_flags_that_make_no_difference_are_accepted_and_said(caplog):
    flags = parse_flags(["--model_base_path=/m", "--flush_filesystem_caches=false", "--num_load_threads=2"])
    assert flags.model_base_path == "/m"
    assert [record.getMessage() for record in caplog.records] == [
        "--num_load_threads makes no difference here: versions are loaded one after the other, beside the requests",
        "--flush_filesystem_caches makes no difference here: the page cache is left to the operating system",
    ]


def test_a_base_path_beside_a_configuration_file_is_ignored_and_said(exports, tmp_path):
    """As tensorflow_model_server does it: the official image's entrypoint always gives both."""
    (tmp_path / "add1").mkdir()
    release(exports / "add1", tmp_path / "add1", 1)
    file = tmp_path / "models.config"
    file.write_text(list_of(model_config("add1", tmp_path / "add1")))
    server = Server("--model_name=model", "--model_base_path=/models/model", f"--model_config_file={file}").wait_ready()
    try:
        assert (server.states("add1"), server.states("model")) == ({1: "AVAILABLE"}, {})
        assert "--model_base_path are ignored: --model_config_file names the models" in "".join(server.log)
    finally:
        server.stop()


def test_a_newest_version_that_does_not_load_ends_the_start(exports, tmp_path):
    """As it ends TensorFlow Serving's: what survived a bad release is an outage at the next restart."""
    release(exports / "add1", tmp_path, 1)
    release(exports / "broken", tmp_path, 2)
    ended = run_to_its_end("--model_name=m", f"--model_base_path={tmp_path}")
    assert ended.returncode == 1
    assert "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: {{{name: m version: 2}" in (
        ended.stderr
    )


@pytest.fixture(scope="module")
def batching(base, exports, tmp_path_factory):
    """Batches of up to 4 rows, which wait 0.2 s for company; labels may come before their versions."""
    folder = tmp_path_factory.mktemp("batching")
    (folder / "batching.config").write_text(
        "max_batch_size { value: 4 } batch_timeout_micros { value: 200000 } num_batch_threads { value: 1 } "
        "max_enqueued_batches { value: 2 } allowed_batch_sizes: [2, 4] pad_variable_length_inputs: true"
    )
    (folder / "monitoring.config").write_text("prometheus_config { enable: true }")
    (folder / "m").mkdir()
    (folder / "slow").mkdir()
    release(exports / "add1", folder / "m", 1)
    release(exports / "slow", folder / "slow", 1)
    models = [*base, model_config("slow", folder / "slow")]
    labelled = model_config("m", folder / "m", 'version_labels { key: "stable" value: 1 }')
    (folder / "models.config").write_text(list_of(*models, labelled))
    server = Server(
        f"--model_config_file={folder}/models.config",
        "--model_config_file_poll_wait_seconds=1",
        "--file_system_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models",
        "--enable_batching=true",
        f"--batching_parameters_file={folder}/batching.config",
        f"--monitoring_config_file={folder}/monitoring.config",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=60000",
    ).wait_ready()
    server.folder, server.base_models = folder, models
    yield server
    assert server.stop() == 0, "".join(server.log)[-4000:]


def predict(server, path: str, **body):
    return server.post(f"{path}:predict", body).json()


def sizes(server) -> dict[str, int]:
    """How many batches of which size the model ran."""
    name, total, found = ":tensorflow:serving:batching_session:processed_batch_size_bucket{le=", 0, {}
    for line in server.get("monitoring/prometheus/metrics").text.splitlines():
        if line.startswith(name):
            limit, count = line.removeprefix(name).replace('"', "").split("} ")
            found[limit], total = int(count) - total, int(count)
    return {limit: count for limit, count in found.items() if count}


def test_concurrent_requests_run_as_one_batch(batching):
    before = sizes(batching)
    with ThreadPoolExecutor(4) as clients:
        bodies = [{"signature_name": "length", "inputs": {"rows": [[float(n)]]}} for n in range(4)]
        answers = list(clients.map(lambda body: predict(batching, "shapes", **body), bodies))
    assert [answer["outputs"]["total"] for answer in answers] == [[0.0], [1.0], [2.0], [3.0]]
    assert [answer["outputs"]["batch"] for answer in answers] == [[4]] * 4
    assert sizes(batching) == before | {"4": before.get("4", 0) + 1}


def test_a_batch_is_filled_up_to_an_allowed_size(batching):
    three = {"signature_name": "length", "inputs": {"rows": [[1.0], [2.0], [3.0]]}}
    assert predict(batching, "shapes", **three) == {"outputs": {"batch": [4, 4, 4], "total": [1.0, 2.0, 3.0]}}


def test_rows_of_different_lengths_are_padded_with_their_first_value(batching):
    with ThreadPoolExecutor(2) as clients:
        bodies = [{"signature_name": "length", "inputs": {"rows": rows}} for rows in ([[1.0, 1.0, 1.0, 2.0]], [[5.0]])]
        answers = list(clients.map(lambda body: predict(batching, "shapes", **body), bodies))
    assert [answer["outputs"]["batch"] for answer in answers] == [[2], [2]]
    assert [answer["outputs"]["total"] for answer in answers] == [[5.0], [20.0]]


def test_what_batching_refuses(batching):
    assert predict(batching, "half_plus_two", inputs=1.0) == {
        "error": "Batching Run() input tensors must have at least one dimension"
    }
    assert predict(batching, "half_plus_two", instances=[1.0] * 5) == {
        "error": "Task size 5 is larger than maximum input batch size 4"
    }
    uneven = {"matrix": [[1.0, 2.0]], "count": [1, 2], "word": ["a"]}
    assert predict(batching, "shapes", inputs=uneven) == {
        "error": "Batching Run() input tensors must have equal 0th-dimension size"
    }
    examples = [{"x": 1.0}, {"x": 2.0}]
    answer = batching.post("half_plus_two:regress", {"signature_name": "regress_x_to_y", "examples": examples}).json()
    assert answer == {"results": [2.5, 3.0]}


def test_a_string_without_dimensions_cannot_be_divided(batching):
    assert predict(batching, "shapes", signature_name="first", inputs=["a"]) == {
        "error": "Batched output tensor has 0 dimensions"
    }


def test_a_full_queue_is_unavailable(batching):
    with ThreadPoolExecutor(8) as clients:
        calls = [clients.submit(batching.post, "slow:predict", {"instances": [-300.0] * 4}) for _ in range(8)]
        answers = [call.result() for call in calls]
    codes = sorted(answer.status_code for answer in answers)
    assert set(codes) == {200, 503}
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.json() == {"error": "The batch scheduling queue to which this task was submitted is full"}


def predict_request(x: float, rows: int = 1) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "slow"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([x] * rows))
    return request


def test_a_queued_request_whose_deadline_has_passed_is_not_computed(batching):
    """One runs, one waits as long as it must, and one whose client does not."""
    before = sum(sizes(batching).values())
    done = batching.predictions.Predict.future(predict_request(-1000.0, rows=4), timeout=60)
    wait_for(lambda: sum(sizes(batching).values()) == before + 1)
    waiting = batching.predictions.Predict.future(predict_request(0.0, rows=4), timeout=60)
    with pytest.raises(grpc.RpcError) as late:
        batching.predictions.Predict(predict_request(-1.0, rows=4), timeout=0.05)
    # Client and server find out at the same time; the server says where the request was.
    assert late.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert len(done.result().outputs["y"].float_val) == len(waiting.result().outputs["y"].float_val) == 4
    answered = batching.predictions.Predict(predict_request(0.0))  # without a deadline
    assert list(answered.outputs["y"].float_val) == [2.0]
    assert sum(sizes(batching).values()) == before + 3, "what nobody waits for any more was computed"


def test_the_configuration_file_is_polled(batching):
    folder, models = batching.folder, batching.base_models
    assert predict(batching, "m/labels/stable", instances=[0.0]) == {"predictions": [1.0]}
    release(ROOT / folder / "m" / "1", folder / "m", 2)
    # The label is in use, so it moves only when version 2 is available: the poll after that does it.
    (folder / "models.config").write_text(
        list_of(*models, model_config("m", folder / "m", 'version_labels { key: "stable" value: 2 }'))
    )
    wait_for(lambda: batching.states("m") == {1: "END", 2: "AVAILABLE"})
    wait_for(lambda: predict(batching, "m/labels/stable", instances=[0.0]) == {"predictions": [1.0]})
    (folder / "models.config").write_text("not a config")
    time.sleep(1.5)
    assert predict(batching, "m", instances=[0.0]) == {"predictions": [1.0]}
    (folder / "models.config").write_text(list_of(*models))
    wait_for(lambda: batching.states("m") == {1: "END", 2: "END"})


@pytest.fixture(scope="module")
def small(exports, tmp_path_factory):
    """Two threads each, REST calls of 0.5 s at most, and versions that are tried twice, on a Unix socket too."""
    folder = tmp_path_factory.mktemp("small")
    for name in ("slow", "m"):
        (folder / name).mkdir()
    release(exports / "slow", folder / "slow", 1)
    release(exports / "add1", folder / "m", 1)
    (folder / "models.config").write_text(list_of(*(model_config(name, folder / name) for name in ("slow", "m"))))
    server = Server(
        f"--model_config_file={folder}/models.config",
        f"--grpc_socket_path={folder}/grpc.sock",
        "--max_num_load_retries=2",
        "--load_retry_interval_micros=1500000",
        "--rest_api_num_threads=2",
        "--grpc_max_threads=2",
        "--rest_api_timeout_in_ms=500",
        "--tensorflow_session_parallelism=1",
        "--grpc_channel_arguments=grpc.max_receive_message_length=100000",
    ).wait_ready()
    server.folder = folder
    yield server
    assert server.stop() == 0, "".join(server.log)[-4000:]


def test_a_rest_call_that_takes_too_long_is_ended(small):
    calls = []
    with ThreadPoolExecutor(3) as clients:  # two run, and the third waits for a thread until its time is up
        for x in (-2000.0, -2000.0, 0.0):
            calls.append(clients.submit(small.post, "slow:predict", {"instances": [x]}))
            time.sleep(0.1)
    for call in calls:
        assert call.result().status_code == 504
        assert call.result().json() == {"error": "Timed out waiting for notification"}
    wait_for(lambda: small.post("slow:predict", {"instances": [0.0]}).status_code == 200, seconds=60)


def test_messages_beyond_the_limit_are_refused_with_the_limit(small):
    with pytest.raises(grpc.RpcError) as refused:
        small.predictions.Predict(predict_request(0.0, rows=30_000), timeout=30)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "100000" in refused.value.details()


def test_grpc_over_a_unix_socket(small):
    with grpc.insecure_channel(f"unix:{small.folder}/grpc.sock") as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(predict_request(0.0), timeout=30)
    assert list(answer.outputs["y"].float_val) == [2.0]


def test_a_version_that_does_not_load_is_tried_again_and_holds_nobody_up(small, exports):
    shutil.copytree(exports / "broken", small.folder / "m" / "2")
    wait_for(lambda: small.states("m") == {1: "AVAILABLE", 2: "LOADING"})
    release(exports / "slow", small.folder / "slow", 2)  # another model's version, between the tries
    wait_for(lambda: small.states("slow") == {1: "END", 2: "AVAILABLE"})
    shutil.copytree(exports / "add2", small.folder / "m" / "2", dirs_exist_ok=True)  # whole now
    wait_for(lambda: small.states("m") == {1: "END", 2: "AVAILABLE"})
    shutil.copytree(exports / "broken", small.folder / "m" / "3")
    wait_for(lambda: small.states("m").get(3) == "END")
    tries = [line for line in small.log if "{name: m version: 3} cannot be loaded" in line]
    assert len(tries) == 3
    shutil.copytree(exports / "broken", small.folder / "m" / "4")
    wait_for(lambda: small.states("m").get(4) == "LOADING")
    (small.folder / "m" / "4").rename(small.folder / "m" / "quarantined-4")  # nobody wants it any more
    wait_for(lambda: small.states("m")[4] == "END")
    assert small.states("m")[2] == "AVAILABLE"
