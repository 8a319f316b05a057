"""The scenarios of TensorFlow Serving's own end-to-end test, against the embedded server.

Of tensorflow_serving/model_servers/tensorflow_model_server_test.py and its test models, which are built here anew:

    testGetModelStatus, testClassify, testRegress, testMultiInference            test_grpc.py
    testPredictSavedModel                                                        test_grpc.py: test_predict
    testPredictBatching                                                          here
    testGoodModelConfig (half_plus_two, half_plus_three; versions named 00000123)  here
    testBadModelConfig                                                           test_server.py
    testModelConfigReload, testModelConfigReloadWithZeroPollPeriod               here
    testGoodGrpcChannelArgs, testPredictUDS                                      here, and test_server.py
    testClassifyREST, testRegressREST, testPredictREST, testPredictColumnarREST,
    testGetStatusREST, testGetModelMetadataREST                                  test_rest.py
    testPrometheusEndpoint                                                       here, and test_rest.py
    test_tf_saved_model_save, test_tf_saved_model_save_multiple_signatures       here
    test_sequential_keras_saved_model_save, test_distrat_sequential_...          here
    bad_half_plus_two (a graph without its variables)                            here
    saved_model_half_plus_two with assets, saved_model_counter                   here

Not applicable: SessionBundle exports (testPredictUpconvertedSavedModel, the bundle in testPredictBatching), which were
TensorFlow 0.x's; TensorFlow Lite (testPredictOnTfLite, parse_example_tflite); TensorRT, MKL and TPU exports, which run
on such builds only.
"""

import shutil
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from keras import Sequential, layers  # not tf.keras, which is another library once TF Transform has been imported
from tensorflow_serving.apis import model_pb2, predict_pb2

from tests.support.servers import Server, half_plus, list_of, model_config, wait_for

pytestmark = pytest.mark.integration

VERSION = "00000123"  # leading zeros are part of the folder's name, not of the version


class Assets(tf.Module):
    """y = x / 2 + the number in a file that the export carries, in assets/."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = tf.saved_model.Asset(str(file))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x / 2 + tf.strings.to_number(tf.io.read_file(self._file.asset_path))}


class Counter(tf.Module):
    """A state that requests change: each signature gives the counter after it."""

    def __init__(self) -> None:
        super().__init__()
        self._count = tf.Variable(0.0)

    @tf.function(input_signature=[])
    def get(self) -> dict[str, tf.Tensor]:
        return {"output": self._count.read_value()}

    @tf.function(input_signature=[])
    def increase(self) -> dict[str, tf.Tensor]:
        return {"output": self._count.assign_add(1.0)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="delta")])
    def increase_by(self, delta: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"output": self._count.assign_add(delta)}


def checkpoint(folder: Path) -> None:
    root = tf.train.Checkpoint()
    root.v1, root.v2 = tf.Variable(3.0), tf.Variable(2.0)
    root.f = tf.function(lambda x: {"y": root.v1 * root.v2 * x})
    tf.saved_model.save(root, str(folder), root.f.get_concrete_function(tf.TensorSpec(None, tf.float32, name="x")))


def two_signatures(folder: Path) -> None:
    x = [tf.TensorSpec(None, tf.float32, name="x")]
    root = tf.train.Checkpoint()
    root.f = tf.function(lambda x: {"y": tf.constant([1.0])}, input_signature=x)
    root.g = tf.function(lambda x: {"y": tf.constant([2.0])}, input_signature=x)
    tf.saved_model.save(root, str(folder), {"serving_default": root.f, "custom_signature_key": root.g})


def keras(folder: Path) -> None:
    inputs = layers.Input((1,), name="x")
    Sequential([inputs, layers.Dense(1, kernel_initializer="ones"), layers.Identity(name="y")]).export(
        str(folder), verbose=False
    )


def mirrored(folder: Path) -> None:
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        model = Sequential([layers.Input((1,), name="x"), layers.Dense(1, kernel_initializer="ones")])
    model.export(str(folder), verbose=False)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenarios")
    half_plus(folder / "half_plus_two" / VERSION, 2)
    half_plus(folder / "half_plus_three" / VERSION, 3)
    (folder / "foo.txt").write_text("2.0")
    with_assets, counter = Assets(folder / "foo.txt"), Counter()
    tf.saved_model.save(with_assets, str(folder / "assets" / VERSION), with_assets.__call__.get_concrete_function())
    (folder / "foo.txt").unlink()  # what the server reads is in the export
    signatures = {name: getattr(counter, name) for name in ("get", "increase", "increase_by")}
    tf.saved_model.save(counter, str(folder / "counter" / VERSION), {**signatures, "serving_default": counter.get})
    for export in (checkpoint, two_signatures, keras, mirrored):
        export(folder / export.__name__ / VERSION)
    return folder


@pytest.fixture(scope="module")
def server(models: Path):
    names = [path.name for path in models.iterdir()]
    (models / "models.config").write_text(list_of(*(model_config(name, models / name) for name in names)))
    (models / "batching.config").write_text("max_batch_size { value: 8 } batch_timeout_micros { value: 1000 }")
    (models / "monitoring.config").write_text(
        'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }'
    )
    started = Server(
        f"--model_config_file={models}/models.config",
        "--enable_batching",
        f"--batching_parameters_file={models}/batching.config",
        f"--monitoring_config_file={models}/monitoring.config",
        f"--grpc_socket_path={models}/grpc.sock",
        "--rest_api_timeout_in_ms=5000",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.lb_policy_name=grpclb",
    ).wait_ready()
    yield started
    assert started.stop() == 0, "".join(started.log)[-4000:]


def predict(server: Server, model: str, signature: str = "serving_default", **inputs: object) -> float:
    """The one value of the one output for `inputs`, with the answer's spec checked."""
    request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name=model, signature_name=signature))
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value, tf.float32))
    response = server.predictions.Predict(request, timeout=30)
    spec = response.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == (model, signature, 123)
    ((_, tensor),) = response.outputs.items()
    (value,) = tensor.float_val
    return value


@pytest.mark.parametrize(
    ("model", "x", "y"),
    [
        ("half_plus_two", [2.0], 3.0),
        ("half_plus_three", [2.0], 4.0),
        ("assets", [2.0], 3.0),
        ("checkpoint", [2.0], 12.0),
        ("two_signatures", [2.0], 1.0),
        ("keras", [[2.0]], 2.0),
        ("mirrored", [[2.0]], 2.0),
    ],
)
def test_models_of_every_origin_answer_with_batching(server, model, x, y):
    assert predict(server, model, x=x) == y


def test_each_signature_is_asked_by_its_name(server):
    assert predict(server, "two_signatures", "custom_signature_key", x=[2.0]) == 2.0
    rest = server.post("two_signatures:predict", {"signature_name": "custom_signature_key", "inputs": [2.0]})
    assert rest.json() == {"outputs": [2.0]}


def test_the_metrics_page_has_types(server):
    assert "# TYPE" in server.get("monitoring/prometheus/metrics").text


@pytest.fixture(scope="module")
def once(models: Path, tmp_path_factory: pytest.TempPathFactory):
    """A server of half_plus_two and the counter, without batching, that reads its file once."""
    file = tmp_path_factory.mktemp("once") / "models.config"
    file.write_text(list_of(*(model_config(name, models / name) for name in ("half_plus_two", "counter"))))
    started = Server(f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=0").wait_ready()
    started.file = file
    yield started
    assert started.stop() == 0, "".join(started.log)[-4000:]


def test_a_config_file_is_read_once_without_polling_and_again_with_it(once, models):
    polling = Server(f"--model_config_file={once.file}", "--model_config_file_poll_wait_seconds=1").wait_ready()
    try:
        assert predict(polling, "half_plus_two", x=[2.0]) == predict(once, "half_plus_two", x=[2.0]) == 3.0
        once.file.write_text(list_of(model_config("half_plus_three", models / "half_plus_three")))
        wait_for(lambda: polling.states("half_plus_three") == {123: "AVAILABLE"})
        assert predict(polling, "half_plus_three", x=[2.0]) == 4.0
        assert predict(once, "half_plus_two", x=[2.0]) == 3.0
        assert once.states("half_plus_three") == {}
    finally:
        assert polling.stop() == 0


def test_state_is_kept_between_requests(once):
    assert predict(once, "counter", "get") == 0.0
    assert predict(once, "counter", "increase") == 1.0
    assert predict(once, "counter", "increase_by", delta=2.5) == 3.5
    with pytest.raises(grpc.RpcError):
        predict(once, "counter", "decrease")
    rest = once.post("counter:predict", {"signature_name": "increase_by", "inputs": 0.5})
    assert rest.json() == {"outputs": 4.0}
    assert predict(once, "counter", "get") == 4.0


def test_a_graph_without_its_variables_is_not_served(once, models, tmp_path):
    bad = tmp_path / "bad_half_plus_two"
    shutil.copytree(models / "half_plus_two", bad)
    shutil.rmtree(bad / VERSION / "variables")
    with pytest.raises(grpc.RpcError) as refused:
        once.reload(list_of(model_config("bad", bad), model_config("counter", models / "counter")))
    assert "{name: bad version: 123} due to error" in refused.value.details()
    with pytest.raises(grpc.RpcError) as unserved:
        predict(once, "bad", x=[2.0])
    assert unserved.value.code() is grpc.StatusCode.NOT_FOUND
