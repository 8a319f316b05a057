"""Versions come, swap, fail and go while the server runs."""

import shutil
import threading
import time

import grpc
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2, prediction_log_pb2

from tests.support.servers import list_of, model_config, release, wait_for

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(server, base, tmp_path):
    """An empty base path for a model named `m`; the server goes back to its base models afterwards."""
    (tmp_path / "m").mkdir()
    yield tmp_path / "m"
    server.reload(list_of(*base))
    wait_for(lambda: set(server.states("m").values()) <= {"END"})


def serve(server, base, folder, more=""):
    server.reload(list_of(*base, model_config("m", folder, more)))


def ask(server, where="m") -> float | str:
    """y for x = 0, which is the N of the export add<N>; or the error."""
    body = server.post(f"{where}:predict", {"instances": [0.0]}).json()
    return body["predictions"][0] if "predictions" in body else body["error"]


def version_error(server, version: int) -> tuple[str, str, str]:
    (status,) = server.get(f"v1/models/m/versions/{version}").json()["model_version_status"]
    return status["state"], status["status"]["error_code"], status["status"]["error_message"]


def test_the_newest_version_replaces_the_one_before(server, base, exports, folder):
    release(exports / "add1", folder, 1)
    serve(server, base, folder)
    assert ask(server) == 1.0  # a reload answers when the model is there
    release(exports / "add2", folder, 20)
    wait_for(lambda: server.states("m") == {1: "END", 20: "AVAILABLE"})
    assert ask(server) == 2.0
    assert ask(server, "m/versions/1") == "Servable not found for request: Specific(m, 1)"
    assert [s["version"] for s in server.get("v1/models/m").json()["model_version_status"]] == ["20", "1"]
    (folder / "20").rename(folder / "quarantined")  # no integer: gone; the version before comes back
    wait_for(lambda: server.states("m") == {1: "AVAILABLE", 20: "END"})
    assert ask(server) == 1.0


def test_only_integers_are_versions(server, base, exports, folder):
    for name in ("1.5", "-3", "v9", "0x7", "latest"):
        shutil.copytree(exports / "add1", folder / name)
    release(exports / "add2", folder, 4)
    serve(server, base, folder, "model_version_policy { all {} }")
    assert server.states("m") == {4: "AVAILABLE"}


def test_version_policies(server, base, exports, folder):
    for version in (1, 2, 3, 4):
        release(exports / f"add{version}", folder, version)
    serve(server, base, folder, "model_version_policy { latest { num_versions: 2 } }")
    wait_for(lambda: server.states("m") == {3: "AVAILABLE", 4: "AVAILABLE"})
    serve(server, base, folder, "model_version_policy { specific { versions: 2 versions: 77 } }")
    wait_for(lambda: server.states("m") == {2: "AVAILABLE", 3: "END", 4: "END"})
    assert ask(server) == 2.0
    serve(server, base, folder, "model_version_policy { all {} }")
    wait_for(lambda: set(server.states("m").values()) == {"AVAILABLE"})
    assert [ask(server, f"m/versions/{n}") for n in (1, 2, 3, 4)] == [1.0, 2.0, 3.0, 4.0]


def test_an_empty_base_path_unloads_everything_and_a_missing_one_nothing(server, base, exports, folder):
    release(exports / "add1", folder, 1)
    serve(server, base, folder)
    folder.rename(folder.with_name("away"))
    with pytest.raises(AssertionError):
        wait_for(lambda: server.states("m")[1] != "AVAILABLE", seconds=2.5)
    folder.with_name("away").rename(folder)
    shutil.move(folder / "1", folder.with_name("1"))
    wait_for(lambda: server.states("m") == {1: "END"})
    assert ask(server) == "Servable not found for request: Latest(m)"


def test_a_version_that_fails_keeps_the_one_before_and_is_not_tried_again(server, base, exports, folder):
    release(exports / "add1", folder, 1)
    serve(server, base, folder)
    (folder / "2").mkdir()
    wait_for(lambda: server.states("m") == {1: "AVAILABLE", 2: "END"})
    state, code, text = version_error(server, 2)
    assert (state, code) == ("END", "NOT_FOUND")
    assert text.startswith(f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {folder}/2.")
    shutil.copytree(exports / "add2", folder / "2", dirs_exist_ok=True)  # whole now, but it stays aspired
    with pytest.raises(AssertionError):
        wait_for(lambda: server.states("m")[2] != "END", seconds=2.5)
    (folder / "2").rename(folder / "2-fixed")
    wait_for(lambda: ask(server) == 1.0)
    time.sleep(1.5)  # a poll without it
    (folder / "2-fixed").rename(folder / "2")
    wait_for(lambda: server.states("m") == {1: "END", 2: "AVAILABLE"})
    release(exports / "broken", folder, 3)
    wait_for(lambda: server.states("m").get(3) == "END")
    assert version_error(server, 3)[1] == "DATA_LOSS"
    assert ask(server) == 2.0


def test_labels_move_in_two_steps(server, base, exports, folder):
    both = "model_version_policy { latest { num_versions: 2 } }"
    release(exports / "add1", folder, 1)
    with pytest.raises(grpc.RpcError) as refused:
        serve(server, base, folder, both + 'version_labels { key: "stable" value: 1 }')
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.value.details() == (
        "Request to assign label to version 1 of model m, which is not currently available for inference"
    )
    serve(server, base, folder, both)
    serve(server, base, folder, both + 'version_labels { key: "stable" value: 1 }')
    release(exports / "add2", folder, 2)
    wait_for(lambda: server.states("m") == {1: "AVAILABLE", 2: "AVAILABLE"})
    serve(
        server,
        base,
        folder,
        both + 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }',
    )
    assert (ask(server, "m/labels/stable"), ask(server, "m/labels/canary"), ask(server)) == (1.0, 2.0, 2.0)
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.version_label = "m", "stable"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([0.0]))
    response = server.predictions.Predict(request, timeout=30)
    assert (response.outputs["y"].float_val[0], response.model_spec.version.value) == (1.0, 1)
    with pytest.raises(grpc.RpcError):
        serve(server, base, folder, both + 'version_labels { key: "stable" value: 3 }')
    assert ask(server, "m/labels/stable") == 1.0  # a refused configuration changes nothing
    serve(server, base, folder, both)
    assert ask(server, "m/labels/stable") == "Unrecognized servable version label: stable"


def test_a_reload_replaces_the_whole_configuration(server, base, exports, folder):
    release(exports / "add1", folder, 1)
    server.reload(list_of(model_config("m", folder)))
    wait_for(lambda: server.states("half_plus_two") == {123: "END"})
    assert ask(server) == 1.0
    with pytest.raises(grpc.RpcError) as refused:
        server.reload(list_of(model_config("m", folder), model_config("m", folder)))
    assert refused.value.details() == "Illegal to list model m multiple times in config list"
    with pytest.raises(grpc.RpcError) as refused:
        server.reload(list_of(model_config("m", "relative/path")))
    assert "to have an absolute path or URI" in refused.value.details()
    release(exports / "broken", folder.parent / "m", 9)
    wait_for(lambda: server.states("m").get(9) == "END")
    server.reload(list_of(*base))
    assert ask(server, "half_plus_two") == 2.0
    with pytest.raises(grpc.RpcError) as refused:
        serve(server, base, folder)
    assert refused.value.code() is grpc.StatusCode.UNKNOWN
    assert refused.value.details().startswith(
        "1 servable(s) did not become available: {{{name: m version: 9} due to error: DATA_LOSS: "
    )


def test_warm_up_is_replayed_before_the_version_is_available(server, base, exports, folder):
    def with_warmup(records: list[bytes], version: int) -> None:
        staged = shutil.copytree(exports / "add3", folder / f"staged{version}")
        (staged / "assets.extra").mkdir()
        with tf.io.TFRecordWriter(str(staged / "assets.extra" / "tf_serving_warmup_requests")) as writer:
            for record in records:
                writer.write(record)
        staged.rename(folder / str(version))

    good = prediction_log_pb2.PredictionLog()
    good.predict_log.request.model_spec.name = "m"
    good.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
    with_warmup([good.SerializeToString()] * 3, 1)
    serve(server, base, folder)
    assert ask(server) == 3.0
    latency = f':tensorflow:serving:model_warmup_latency_count{{model_path="{folder}/1",status="OK"}} 1'
    assert latency in server.get("metrics").text.splitlines()
    good.predict_log.request.model_spec.signature_name = "none"
    with_warmup([good.SerializeToString()], 2)
    wait_for(lambda: server.states("m") == {1: "AVAILABLE", 2: "END"})
    assert version_error(server, 2) == ("END", "FAILED_PRECONDITION", 'Serving signature key "none" not found.')


def test_an_unload_waits_for_the_requests_in_flight(server, base, exports, folder):
    release(exports / "slow", folder, 1)
    serve(server, base, folder)
    answers = []
    slow = threading.Thread(target=lambda: answers.append(server.post("m:predict", {"instances": [-2000.0]}).json()))
    slow.start()
    time.sleep(0.2)  # until the request is there
    (folder / "1").rename(folder / "gone")
    wait_for(lambda: server.states("m")[1] != "AVAILABLE")
    during = server.states("m")[1]
    slow.join()
    assert answers == [{"predictions": [-998.0]}]
    assert during == "UNLOADING"
    wait_for(lambda: server.states("m") == {1: "END"})


def ask_by_rest(server, done: threading.Event, counts: list, problems: list) -> None:
    session, count, latest = requests.Session(), 0, 1.0
    while not done.is_set():
        response = session.post(f"{server.url}/v1/models/m:predict", json={"instances": [0.0]}, timeout=30)
        answer = response.json().get("predictions", [response.text])[0]
        if answer not in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0) or answer < latest:
            problems.append(answer)
        count, latest = count + 1, answer
    counts.append(count)


def ask_by_grpc(server, done: threading.Event, counts: list, problems: list) -> None:
    request, count = predict_pb2.PredictRequest(), 0
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([0.0]))
    while not done.is_set():
        try:
            response = server.predictions.Predict(request, timeout=30)
            if response.outputs["y"].float_val[0] != response.model_spec.version.value:
                problems.append(response)
        except grpc.RpcError as error:
            problems.append(error)
        count += 1
    counts.append(count)


@pytest.mark.slow
def test_no_request_fails_or_is_answered_wrongly_during_swaps(server, base, exports, folder):
    """Two REST and two gRPC clients ask without pause while five releases follow each other."""
    release(exports / "add1", folder, 1)
    serve(server, base, folder)
    done, counts, problems = threading.Event(), [], []
    asking = (ask_by_rest, ask_by_grpc, ask_by_rest, ask_by_grpc)
    clients = [threading.Thread(target=ask, args=(server, done, counts, problems)) for ask in asking]
    for client in clients:
        client.start()
    try:
        for version in (2, 3, 4, 5, 6):
            release(exports / f"add{version}", folder, version)
            wait_for(lambda: server.states("m").get(version) == "AVAILABLE")  # noqa: B023
    finally:
        done.set()
        for client in clients:
            client.join()
    assert problems == []
    assert min(counts) > 20
    wait_for(lambda: server.states("m") == {6: "AVAILABLE"} | dict.fromkeys(range(1, 6), "END"))


def test_status_names_every_state():
    names = get_model_status_pb2.ModelVersionStatus.State
    assert [names.Name(number) for number in (10, 20, 30, 40, 50)] == [
        "START",
        "LOADING",
        "AVAILABLE",
        "UNLOADING",
        "END",
    ]
