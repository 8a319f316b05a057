"""Artifacts, baselines and ML Metadata of two hosts, which share no disk."""

from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from nightly.baselines import accept, controls_of, withdraw
from nightly.io.files import hash_files
from nightly.records.baseline import Baseline
from nightly.state import current
from nightly.state.errors import StateError
from nightly.statistics.files import intact
from nightly.tfx import seals
from nightly.tfx.metadata import NightlyMetadata, connection_config, node_lock
from nightly.tfx.retention import prune
from nightly.tfx.seals import DamagedArtifactError, check
from tests.support.metadata import run_with_an_artifact
from tests.support.nights import a_night, utc
from tests.support.two_hosts import damage, flip

# --- baselines


def test_a_baseline_is_a_control_on_the_other_host_until_it_is_withdrawn(hosts, tmp_path):
    statistics = tmp_path / "statistics/Split-train"
    statistics.mkdir(parents=True)
    (statistics / "FeatureStats.pb").write_bytes(b"statistics")
    as_of = utc(2016, 2, 1)
    baseline = Baseline(
        model="taxi", run_id="r", as_of=as_of, snapshot_id="0" * 32, accepted_at=as_of,
        files=hash_files(statistics.parent),
    )  # fmt: skip
    with hosts.session("A") as paths:
        accept(paths.baselines, baseline, statistics.parent)
        accept(paths.baselines, baseline, statistics.parent)
    with hosts.session("B") as paths:
        (control,) = controls_of(paths, a_night(), {"last_accepted": 1})
        assert intact(control).folder and control.baseline == baseline
        folder = paths.var / "baselines/taxi"
        (read,) = folder.glob("*/Split-train/FeatureStats.pb")
        damage(read)
        assert intact(control).folder, "its copy is replaced by the bucket's"
        assert read.read_bytes() == b"statistics"
    with hosts.session("A") as paths:
        withdraw(paths.baselines, "taxi", "r")
    with hosts.session("B") as paths:
        (control,) = controls_of(paths, a_night(), {"last_accepted": 1})
        assert control.baseline is None


# --- artifacts and ML Metadata


def test_an_artifact_is_fetched_checked_and_pruned_from_either_host(hosts):
    with hosts.session("A") as paths, NightlyMetadata(paths, "taxi") as handle:
        root = paths.pipeline / "taxi"
        run_with_an_artifact(handle, "night-0", root / "examples/examples/1")
        run_with_an_artifact(handle, "night-1", root / "examples/examples/2")
        for number in (1, 2):
            current().publish(root / "examples/examples" / str(number))
        (root / "production_model/night-0-17").mkdir(parents=True)
        (root / "production_model/night-0-17/saved_model.pb").write_bytes(b"model")
        current().publish(root / "production_model/night-0-17")
        artifact = standard_artifacts.Examples()
        artifact.uri = str(root / "examples/examples/2")
        seals.seal([artifact.mlmd_artifact], "examples", "night-1")
    with hosts.session("B") as paths, NightlyMetadata(paths, "taxi") as handle:
        assert list(check({"examples": [artifact]})[artifact.uri]) == ["payload"]
        damage(root / "examples/examples/2/payload")
        assert check({"examples": [artifact]}), "its copy is replaced by the bucket's"
        night = a_night(run_id="night-0")
        for file in ("request.json", "verdict.json"):
            night.save(night.folder(paths) / file)
        assert prune(handle, paths, "taxi", keep=1) == 1
        assert hosts.keys("manifests/pipeline/taxi/production_model/") == []
    with hosts.session("A") as paths:
        assert hosts.keys("manifests/pipeline/taxi/examples/examples/") == [
            "manifests/pipeline/taxi/examples/examples/2.json"
        ]
    hosts.lose("B")
    for blob in hosts.keys("blobs/"):
        hosts.change(blob, flip)
    with hosts.session("B"), pytest.raises(DamagedArtifactError, match=r"has other bytes.* Clear `examples`"):
        check({"examples": [artifact]})


def test_a_node_runs_on_one_host_at_a_time(hosts):
    with hosts.session("A") as paths:
        folder = paths.night("taxi", "r")
        folder.mkdir()
        with node_lock(folder, "examples"), node_lock(folder, "statistics"):
            (mark,) = hosts.keys("records/nights/taxi/r/examples")
            with pytest.raises(BlockingIOError), current().locked(folder / Path(mark).name, wait=False):
                pass
    assert hosts.keys("records/nights/taxi/r/") == []


def test_metadata_in_a_file_of_one_host_is_refused(hosts, monkeypatch):
    monkeypatch.delenv("NIGHTLY_METADATA_DB")
    with hosts.session("A") as paths, pytest.raises(StateError, match="NIGHTLY_METADATA_DB"):
        connection_config(paths, "taxi")
