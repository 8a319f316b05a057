"""Starting, flags, the polled configuration file, and batching."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.include.serving.servers import ROOT, Server, list_of, model_config, release, wait_for


def run_to_its_end(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "include.serving.server", "--port=0", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_file_that_is_no_config_ends_the_start(tmp_path):
    path = tmp_path / "bad.config"
    path.write_text("improperly formatted file")
    ended = run_to_its_end(f"--model_config_file={path}")
    assert ended.returncode == 1
    assert f"Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '{path}'" in ended.stderr


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
    ],
)
def test_wrong_flags_are_refused(flags, text):
    ended = run_to_its_end(*flags)
    assert ended.returncode == 2
    assert text in ended.stderr


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


def test_a_full_queue_is_unavailable(batching):
    with ThreadPoolExecutor(8) as clients:
        calls = [clients.submit(batching.post, "slow:predict", {"instances": [-300.0] * 4}) for _ in range(8)]
        answers = [call.result() for call in calls]
    codes = sorted(answer.status_code for answer in answers)
    assert set(codes) == {200, 503}
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.json() == {"error": "The batch scheduling queue to which this task was submitted is full"}


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
