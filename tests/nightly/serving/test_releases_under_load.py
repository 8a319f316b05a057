"""Ten releases, a version that is refused, and a rollback, while clients ask without pause."""

import base64
import threading
from collections.abc import Callable

import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from nightly.records.config import Release
from nightly.release.errors import ReleaseNotVerified
from nightly.serving import verify
from nightly.serving.server import find_server
from nightly_client import Client, example
from tests.support.live_server import LiveServer, model

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NAME = "loaded"
RELEASES = 10


class Load:
    """Clients of four kinds, each in a thread of its own; every answer is kept with the version that gave it.

    The model of release i answers i / 10. Over REST the version that answered is not named.
    """

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._example = example({"x": 0.0}).SerializeToString()
        self._done = threading.Event()
        self.stable: list[list[float]] = []  # what each client of the label got, in order
        self.answers: set[tuple[int | None, float]] = set()
        self.problems: list[object] = []
        self.counts: list[int] = []
        clients = [
            self._through(Client(server.rest.address, retries=0), "stable"),
            self._through(Client(server.grpc.address, retries=0), "stable"),
            self._through(Client(server.rest.address, retries=0), None),
            self._through(Client(server.grpc.address, retries=0), None),
            self._stub("stable"),
            self._plain_rest("/labels/stable"),
        ]
        self._threads = [threading.Thread(target=client) for client in clients]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _asking(self, ask: Callable[[], tuple[int | None, float]], labelled: bool) -> Callable[[], None]:
        got: list[float] = []
        if labelled:
            self.stable.append(got)

        def run() -> None:
            count = 0
            while not self._done.is_set():
                try:
                    version, value = ask()
                except Exception as error:
                    self.problems.append(error)
                    continue
                value = round(value, 4)
                self.answers.add((version, value))
                if not got or got[-1] != value:
                    got.append(value)
                count += 1
            self.counts.append(count)

        return run

    def _through(self, client: Client, label: str | None) -> Callable[[], None]:
        def ask() -> tuple[int | None, float]:
            found = client.predict(NAME, [self._example], label=label)
            return found.version, found.values[0][0]

        return self._asking(ask, label is not None)

    def _stub(self, label: str) -> Callable[[], None]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.version_label = NAME, label
        request.inputs["examples"].CopyFrom(tf.make_tensor_proto([self._example]))

        def ask() -> tuple[int | None, float]:
            response = self._server.server.predictions.Predict(request, timeout=30)
            return response.model_spec.version.value, response.outputs["probability"].float_val[0]

        return self._asking(ask, True)

    def _plain_rest(self, where: str) -> Callable[[], None]:
        session = requests.Session()
        metadata = f"{self._server.rest.address}/v1/models/{NAME}{where}"
        body = {"instances": [{"b64": base64.b64encode(self._example).decode()}]}

        def ask() -> tuple[int | None, float]:
            response = session.post(f"{metadata}:predict", json=body, timeout=30)
            response.raise_for_status()
            return None, response.json()["predictions"][0][0]

        return self._asking(ask, True)


def test_no_request_fails_or_is_answered_by_another_model_than_its_versions(server, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "LATENCY_REQUESTS", 5)  # the clients keep the machine busy enough
    exports = {i: model(tmp_path / str(i), i / 10) for i in range(RELEASES + 1)}
    bad = model(tmp_path / "bad", 0.99, wrong=0.01)
    answers = {}  # version -> what it must answer

    def released(i: int) -> int:
        record = server.release(NAME, exports[i], f"run-{i}", latency_factor=1000)
        answers[record.version] = i / 10
        return record.version

    released(0)
    load = Load(server)
    try:
        versions = [released(i) for i in range(1, RELEASES + 1)]
        with pytest.raises(ReleaseNotVerified, match="golden"):
            server.release(NAME, bad, "run-bad")
        answers[server.store(NAME).disk.records()[-1].version] = 0.99
        of_model = find_server(server.paths, NAME, Release())
        server.store(NAME).roll_back(versions[-2], "under load", server=of_model)
    finally:
        load.end()

    assert load.problems == []
    assert min(load.counts) > 20
    named = {(version, value) for version, value in load.answers if version is not None}
    assert named <= set(answers.items())
    assert {value for _, value in load.answers} <= set(answers.values())
    # Clients of the label get release after release, no refused version, and at the end the one gone back to.
    for got in load.stable:
        assert got[-1] == (RELEASES - 1) / 10
        assert got[:-1] == sorted(got[:-1]) and got[-2] == RELEASES / 10
        assert 0.99 not in got
    assert server.answer(NAME, "stable") == server.answer(NAME) == ((RELEASES - 1) / 10, versions[-2])
