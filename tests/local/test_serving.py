"""The embedded model server as `make up` starts it."""

from local.serving import LocalModelServer
from nightly.io.paths import Paths
from nightly.serving import address


def test_commands_in_other_shells_find_it_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path))
    for name in ("REST", "GRPC", "BASE_PATH"):
        monkeypatch.delenv(f"NIGHTLY_SERVING_{name}", raising=False)
    paths = Paths.from_environment()
    with LocalModelServer.of_releases(paths, tmp_path / "serving.log").running() as server:
        known = address.find_address(paths)
        assert (known.rest, known.grpc, known.base_path) == (server.rest, server.grpc, str(paths.serving))
    assert address.find_address(paths) is None
