"""Small SavedModels of the kind TensorFlow Serving tests with, and real server processes on free loopback ports."""

import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import requests
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from nightly.io.paths import ROOT
from nightly.io.polling import poll
from nightly_server.server import main
from tests.support.forks import Fork

START_SECONDS = 300  # on a machine that runs both sides of the tests at once


def half_plus(folder: Path, add: float, *, slow: bool = False) -> Path:
    """y = x / 2 + add, to predict, classify and regress; `slow` takes about a millisecond for each unit below 0."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        factor, addend = v1.Variable(0.5, use_resource=True), v1.Variable(float(add), use_resource=True)
        x = v1.placeholder(tf.float32, name="x")
        y = tf.add(factor * x, addend, name="y")
        if slow:
            steps = -tf.reduce_min(x)
            busy = tf.while_loop(lambda i, a: i < steps, lambda i, a: (i + 1, tf.tanh(a @ a)), [0.0, tf.eye(400)])[1]
            y += 0 * tf.reduce_sum(busy)
        serialized = v1.placeholder(tf.string, [None], name="tf_example")
        parsed = tf.io.parse_example(
            serialized,
            {"x": tf.io.FixedLenFeature([1], tf.float32), "x2": tf.io.FixedLenFeature([1], tf.float32, [0.0])},
        )
        scores = factor * parsed["x"] + addend
        shifted = factor * parsed["x2"] + addend + 1
        labels = tf.fill(tf.shape(scores), "even")
        session.run(v1.global_variables_initializer())
        info = v1.saved_model.utils.build_tensor_info
        signature = v1.saved_model.build_signature_def
        classify, regress = "tensorflow/serving/classify", "tensorflow/serving/regress"
        examples = {"inputs": info(serialized)}
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": signature({"x": info(x)}, {"y": info(y)}, "tensorflow/serving/predict"),
                "classify_x_to_y": signature(examples, {"scores": info(scores)}, classify),
                "classify_labels": signature(examples, {"classes": info(labels), "scores": info(scores)}, classify),
                "regress_x_to_y": signature(examples, {"outputs": info(scores)}, regress),
                "regress_x2_to_y3": signature(examples, {"outputs": info(shifted)}, regress),
            },
        )
        builder.save()
    return folder


class Shapes(tf.Module):
    """A TF2 export with several inputs and outputs, strings and bytes."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="matrix"),
            tf.TensorSpec([None], tf.int64, name="count"),
            tf.TensorSpec([None], tf.string, name="word"),
        ]
    )
    def several(self, matrix: tf.Tensor, count: tf.Tensor, word: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sums": tf.reduce_sum(matrix, axis=1), "next": count + 1, "words": tf.strings.upper(word)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image")])
    def twice(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"image_bytes": tf.strings.join([image, image])}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="rows")])
    def length(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"total": tf.reduce_sum(rows, axis=1), "batch": tf.fill([tf.shape(rows)[0]], tf.shape(rows)[0])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
    def first(self, words: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"word": words[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def optional(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"held": tf.raw_ops.OptionalFromValue(components=[x]), "sent": x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"] * 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"] * 3}


def shapes(folder: Path) -> Path:
    module = Shapes()
    signatures = {
        "serving_default": module.several,
        "twice": module.twice,
        "length": module.length,
        "first": module.first,
        "optional": module.optional,
        "classify": module.classify,
        "regress": module.regress,
    }
    tf.saved_model.save(
        module, str(folder), signatures={name: f.get_concrete_function() for name, f in signatures.items()}
    )
    return folder


def model_config(name: str, base_path: Path, more: str = "") -> str:
    return f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "tensorflow" {more} }}'


def list_of(*configs: str) -> str:
    return "model_config_list { " + "\n".join(configs) + " }"


class Server:
    """A server process and what speaks to it.

    :param fork: save TensorFlow's import; without, it is started as users start it
    """

    def __init__(self, *flags: str, fork: bool = True) -> None:
        arguments = ["--port=0", "--rest_api_port=0", "--max_num_load_retries=0", *flags]  # the last of a flag counts
        self.process = Fork(_serve, arguments) if fork else _start(arguments)
        self.log: list[str] = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()

    def wait_ready(self) -> "Server":
        timer = threading.Timer(START_SECONDS, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        ports = re.fullmatch(r"ready grpc=(127\.0\.0\.1:\d+) rest=(127\.0\.0\.1:\d+)\n", line)
        assert ports, f"not ready: {line!r}\n{''.join(self.log)[-4000:]}"
        self.url = f"http://{ports[2]}"
        self.grpc_address = ports[1]
        self.channel = grpc.insecure_channel(ports[1])
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        return self

    def post(self, path: str, body: object = None, data: bytes | None = None) -> requests.Response:
        return requests.post(f"{self.url}/v1/models/{path}", json=body, data=data, timeout=30)

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}/{path}", timeout=30)

    def states(self, model: str) -> dict[int, str]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        try:
            response = self.models.GetModelStatus(request, timeout=30)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
            return {}
        names = get_model_status_pb2.ModelVersionStatus.State.Name
        return {status.version: names(status.state) for status in response.model_version_status}

    def reload(self, config: str) -> None:
        request = model_management_pb2.ReloadConfigRequest()
        text_format.Parse(config, request.config)
        self.models.HandleReloadConfigRequest(request, timeout=60)

    def stop(self) -> int:
        self.channel.close()
        self.process.terminate()
        return self.process.wait(timeout=30)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    assert poll(condition, every=0.05, seconds=seconds), "it did not come about in time"


def release(exported: Path, base_path: Path, version: int) -> Path:
    """Put a copy of `exported` under its version, as a release does: whole, by a rename."""
    staged = base_path / f".staged-{version}"
    shutil.copytree(exported, staged)
    return staged.rename(base_path / str(version))


def _serve(arguments: list[str]) -> None:
    os.chdir(ROOT)
    logging.root.handlers.clear()  # TensorFlow's import has set one, which in a server's own start it does too late
    sys.exit(main(arguments))


def _start(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nightly_server", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
