"""A model server that is run from our live configuration, and small models that can be released to it."""

import base64
import os
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from nightly.io.paths import Paths
from nightly.records.config import Release
from nightly.records.golden import GOLDEN, Api, Golden, GoldenExample
from nightly.records.release import ReleaseRecord
from nightly.release.store import ReleaseStore
from nightly.serving import models_config as live
from nightly.serving.server import find_server
from nightly_client import Client, example
from tests.support.releases import origin
from tests.support.servers import Server

XS = (0.0, 1.0, 2.5)


STRINGS = tf.TensorSpec([None], tf.string)


class Linear(tf.Module):
    """probability = x / 10 + add, of serialized examples; `busy` multiplications of matrices make it slow."""

    def __init__(self, add: float, busy: int) -> None:
        super().__init__()
        self._add, self._busy = tf.Variable(add), busy

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def __call__(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        square = tf.eye(300) + 0 * x[0, 0]
        for _ in tf.range(self._busy):
            square = tf.tanh(square @ square)
        return {"probability": x / 10 + self._add + 0 * tf.reduce_sum(square)}

    @tf.function
    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        p = self(inputs)["probability"]
        return {"classes": tf.where(p < 0, "", [["0", "1"]]), "scores": tf.concat([1 - p, p], axis=1)}

    @tf.function
    def regress(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": self(inputs)["probability"][:, 0]}


def model(folder: Path, add: float, *, busy: int = 0, wrong: float = 0.0, apis: dict[Api, float] | None = None) -> Path:
    """An export with golden predictions, which are off by `wrong`.

    :param apis: its signatures besides serving_default, and by how much their golden answers are off
    """
    linear, apis = Linear(add, busy), apis or {}
    signatures = {api: getattr(linear, api).get_concrete_function(inputs=STRINGS) for api in apis}
    signatures["serving_default"] = linear.__call__.get_concrete_function()
    tf.saved_model.save(linear, str(folder), signatures=signatures)
    examples = [
        GoldenExample(
            example_base64=base64.b64encode(example({"x": x}).SerializeToString()).decode(),
            features={"x": x},
            outputs={"probability": [x / 10 + add + wrong]},
            answers={api: [p + off for p in answers_of(api, x / 10 + add)] for api, off in apis.items()},
        )
        for x in XS
    ]
    Golden(model="any", examples=examples).save(folder / GOLDEN)
    return folder


def answers_of(api: Api, p: float) -> list[float]:
    return [1 - p, p] if api == "classify" else [p]


def exports(folder: Path) -> Path:
    """good1 to good4 (add 0.1 to 0.4), wrong (golden predictions off), slow, and broken (no SavedModel)."""
    for number in (1, 2, 3, 4):
        model(folder / f"good{number}", number / 10)
    model(folder / "slow", 0.5, busy=200)
    shutil.copytree(folder / "good4", folder / "wrong")
    golden = Golden.load(folder / "wrong" / GOLDEN)
    worse = [
        e.model_copy(update={"outputs": {"probability": [e.outputs["probability"][0] + 1e-3]}}) for e in golden.examples
    ]
    golden.model_copy(update={"examples": worse}).save(folder / "wrong" / GOLDEN)
    shutil.copytree(folder / "good4", folder / "broken")
    (folder / "broken" / "saved_model.pb").write_bytes(b"this is no model")
    return folder


def start_server(volume: Path) -> Server:
    """Start a server of the volume; the environment names it from then on."""
    server = Server(f"--model_config_file={volume / live.FILE}", "--allow_version_labels_for_unavailable_models")
    return named(server.wait_ready())


def named(server: Server) -> Server:
    """Have the environment name the server."""
    os.environ["NIGHTLY_SERVING_REST"] = server.url.removeprefix("http://")
    os.environ["NIGHTLY_SERVING_GRPC"] = server.grpc_address
    return server


def release(
    paths: Paths,
    name: str,
    source: Path,
    run_id: str = "run",
    canary_share: float | None = None,
    timeout_seconds: float = 30,
    **config: float,
) -> ReleaseRecord:
    """Release as the pipeline does it, verified by the server that the environment names."""
    server = find_server(paths, name, Release(timeout_seconds=timeout_seconds, **config))
    return ReleaseStore(paths.serving, paths.releases, name).release(
        source, origin(run_id), server=server, canary_share=canary_share
    )


def answer(client: Client, name: str, label: str | None = None, x: float = 0.0) -> tuple[float, int]:
    """Return what the model answers, and which version of it."""
    answered = client.predict(name, [example({"x": x}).SerializeToString()], label=label)
    return round(answered.values[0][0], 4), answered.version


class LiveServer:
    """The paths of a project, the server that serves its releases, and clients of it.

    It changes the environment, which the fixture restores.
    """

    def __init__(self, var: Path, running: Server | None) -> None:
        """Reconfigure the server that another project has `running`; without one, start it."""
        os.environ["NIGHTLY_VAR"] = str(var)
        self.paths = Paths.from_environment()
        live.write(self.paths, str(self.paths.serving))
        if running is None:
            self.start()
        else:
            running.reload((self.paths.serving / live.FILE).read_text())
            self._connect(named(running))

    def start(self) -> None:
        self._connect(start_server(self.paths.serving))

    def _connect(self, server: Server) -> None:
        self.server = server
        self.grpc = Client(f"grpc://{self.server.grpc_address}")
        self.rest = Client(self.server.url)

    def close(self) -> None:
        for client in (self.grpc, self.rest):
            client.close()

    def stop(self) -> None:
        self.close()
        assert self.server.stop() == 0, "".join(self.server.log)[-4000:]

    def store(self, name: str) -> ReleaseStore:
        return ReleaseStore(self.paths.serving, self.paths.releases, name)

    def release(self, name: str, source: Path, *args: Any, **kwargs: Any) -> ReleaseRecord:
        return release(self.paths, name, source, *args, **kwargs)

    def answer(self, name: str, label: str | None = None, x: float = 0.0) -> tuple[float, int]:
        return answer(self.grpc, name, label, x)

    def labels(self, name: str) -> dict[str, int]:
        config = live.LiveConfig(self.paths.serving, "").read()
        return next(dict(e.version_labels) for e in config.model_config_list.config if e.name == name)
