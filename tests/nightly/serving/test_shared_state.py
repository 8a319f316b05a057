"""A host that releases, a model server on another host, and `bin/pull` between them: they share only a bucket."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightly.io.paths import ROOT, python_path
from nightly.records.config import Release
from nightly.records.release import ReleaseRecord
from nightly.release.errors import NotVerifiedYet, ReleaseNotVerified
from nightly.release.store import ReleaseStore
from nightly.serving.server import find_server
from nightly_client import Client, ServingError
from tests.support import live_server
from tests.support.releases import loadable
from tests.support.servers import wait_for
from tests.support.shared_releases import SharedReleases, bucket_and_locks

pytestmark = pytest.mark.integration


class ServingHost:
    """The model server and the process that pulls into its volume."""

    def __init__(self, hosts: SharedReleases, volume: Path) -> None:
        self.hosts, self.volume = hosts, volume
        self.pull = self.pulling()
        wait_for((volume / "models.config").exists)
        self.server = live_server.start_server(volume)
        self.grpc = Client(f"grpc://{self.server.grpc_address}")
        os.environ["NIGHTLY_SERVING_BASE_PATH"] = str(volume)

    def pulling(self, *options: str) -> subprocess.Popen:
        command = [ROOT / "bin/pull", "--from", self.hosts.address, "--into", self.volume, "--watch", "0.5", *options]
        secret = {name: value for name, value in os.environ.items() if name != "NIGHTLY_METADATA_DB"}
        environment = secret | {"PYTHONPATH": python_path(), "NIGHTLY_STATE": ""}
        return subprocess.Popen(list(map(str, command)), env=environment, cwd=ROOT)

    def release(
        self,
        name: str,
        source: Path,
        run_id: str,
        host: str = "a",
        share: float | None = None,
        timeout_seconds: float = 60,
    ) -> ReleaseRecord:
        """Release from a host that has another disk."""
        with self.hosts.session(host, name) as paths:
            return live_server.release(paths, name, source, run_id, share, timeout_seconds)

    def answer(self, name: str, label: str | None = None) -> tuple[float, int]:
        return live_server.answer(self.grpc, name, label)

    def command(self, *arguments: str, host: str = "a") -> subprocess.CompletedProcess:
        environment = os.environ | {
            "NIGHTLY_STATE": self.hosts.address,
            "NIGHTLY_VAR": str(self.hosts.folder / host),
            "PYTHONPATH": python_path(),
        }
        command = [str(ROOT / "bin/releases"), *arguments]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingHost]:
    before, folder = dict(os.environ), tmp_path_factory.mktemp("hosts")
    with bucket_and_locks() as (bucket, environment):
        os.environ.update(environment)
        bucket.put("shared/other", b"not of the state")
        host = ServingHost(SharedReleases("s3://shared/state", folder), folder / "volume")
        try:
            yield host
        finally:
            host.pull.kill()
            host.pull.wait()
            host.grpc.close()
            host.server.stop()
            os.environ.clear()
            os.environ.update(before)


@pytest.mark.slow
def test_a_release_is_verified_by_a_server_of_another_host_and_rolled_back_by_a_third(serving, exports):
    first = serving.release("taxi", exports / "good1", "run-1", "a")
    assert first.state == "released" and first.verification.golden_examples == 3
    assert serving.answer("taxi", "stable") == serving.answer("taxi") == (0.1, first.version)

    second = serving.release("taxi", exports / "good2", "run-2", "b")
    assert second.verification.previous_p99_ms > 0
    assert serving.answer("taxi", "stable") == serving.answer("taxi") == (0.2, second.version)
    assert serving.release("taxi", exports / "good2", "run-2", "a") == second

    done = serving.command("rollback", "taxi", "previous", "--reason", "worse", host="c")
    assert done.returncode == 0, done.stderr
    assert serving.answer("taxi", "stable") == serving.answer("taxi") == (0.1, first.version)
    wait_for(lambda: loadable(serving.volume / "taxi") == [first.version])
    assert "all four agree" in serving.command("verify", "taxi", host="b").stdout


@pytest.mark.slow
def test_another_models_labels_stay_when_a_host_that_never_saw_it_releases(serving, exports):
    serving.release("other", exports / "good3", "run-1", "a")
    before = serving.answer("other", "stable")
    serving.release("third", exports / "good4", "run-1", "b")
    assert serving.answer("other", "stable") == before


@pytest.mark.slow
def test_a_refused_version_is_quarantined_and_leaves_the_volume(serving, exports):
    good = serving.release("refused", exports / "good1", "run-1")
    with pytest.raises(ReleaseNotVerified, match=r"golden predictions .* differ by 0\.001"):
        serving.release("refused", exports / "wrong", "run-2", "b")
    with pytest.raises(ReleaseNotVerified, match="could not load"):
        serving.release("refused", exports / "broken", "run-3", "a")
    wait_for(lambda: loadable(serving.volume / "refused") == [good.version])
    wait_for(lambda: serving.answer("refused") == serving.answer("refused", "stable") == (0.1, good.version))


@pytest.mark.slow
def test_a_canary_is_served_beside_production_and_promoted_by_another_host(serving, exports):
    first = serving.release("canary", exports / "good1", "run-1", "a")
    canary = serving.release("canary", exports / "good2", "run-2", "b", share=0.2)
    assert canary.state == "canary"
    assert serving.answer("canary", "stable") == (0.1, first.version)
    assert serving.answer("canary", "canary") == (0.2, canary.version)
    with serving.hosts.session("c", "canary") as paths:
        server = find_server(paths, "canary", Release(timeout_seconds=60))
        ReleaseStore(paths.serving, paths.releases, "canary").promote(canary.version, server=server)
    assert serving.answer("canary", "stable") == (0.2, canary.version)
    with pytest.raises(ServingError):
        serving.answer("canary", "canary")


@pytest.mark.slow
def test_without_a_pull_a_version_is_not_verified_yet_and_a_retry_on_another_host_completes_it(serving, exports):
    first = serving.release("retried", exports / "good1", "run-1")
    serving.pull.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(NotVerifiedYet):
            serving.release("retried", exports / "good2", "run-2", "a", timeout_seconds=5)
        assert serving.answer("retried") == serving.answer("retried", "stable") == (0.1, first.version)
    finally:
        serving.pull.send_signal(signal.SIGCONT)
    second = serving.release("retried", exports / "good2", "run-2", "b")
    assert second.state == "released" and serving.answer("retried", "stable") == (0.2, second.version)


@pytest.mark.slow
def test_a_pull_that_is_killed_again_and_again_never_shows_half_a_version(serving, exports):
    served = [serving.release("killed", exports / "good1", "run-1")]
    served += [serving.release("killed", exports / f"good{n}", f"run-{n}") for n in (2, 3)]
    volume = serving.hosts.folder / "second"
    for after in (0.2, 1, 1.5, 2, 2.5, 3):  # the interpreter starts in about a second
        command = [str(ROOT / "bin/pull"), "killed", "--from", serving.hosts.address, "--into", str(volume)]
        pull = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": python_path()}, cwd=ROOT)
        time.sleep(after)
        pull.kill()
        pull.wait()
        with serving.hosts.store("a", "killed") as store:
            for version in loadable(volume / "killed"):
                assert not store.disk.damage(store.disk.record(version), volume / "killed" / str(version))
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": python_path()}, cwd=ROOT).returncode == 0
    assert loadable(volume / "killed") == sorted(record.version for record in served)
    assert "killed" in (volume / "models.config").read_text() and "taxi" not in (volume / "models.config").read_text()
