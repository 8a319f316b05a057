"""A snapshot that is damaged after its step: the next step makes it again from the night's downloads."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nightly.cli import night as nights
from nightly.cli.snapshots import main as snapshots
from nightly.records.night import GateResult, Night, SnapshotRef
from nightly.snapshots.errors import DamagedSnapshotError
from nightly.tfx.runner import run_node
from tests.support.two_hosts import damage

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def paths(module_places):
    return module_places


@pytest.fixture(scope="module")
def folder(paths) -> Path:
    """A night of real taxi trips, run without Airflow up to the step before its data gate."""
    assert nights.main(["taxi", "--as-of", "2015-05-01", "--until", "drift_skew"]) == 0
    (folder,) = (paths.nights / "taxi").iterdir()
    return folder


def again(folder: Path, run_id: str, **changes: object) -> Path:
    """The same night with another id, up to its snapshot; it reuses nothing."""
    night = Night.load(folder / "request.json").model_copy(update={"run_id": run_id, "fresh": True, **changes})
    copy = folder.with_name(run_id)
    night.save(copy / "request.json")
    for name in ("download.json", "snapshot.json"):
        shutil.copy(folder / name, copy)
    return copy


def shard_of(folder: Path) -> Path:
    (shard,) = Path(SnapshotRef.load(folder / "snapshot.json").path).glob("rows-*.parquet")
    return shard


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "deleted": (Path.unlink, "is missing"),
    "flipped": (damage, "has changed"),
    "no-manifest": (lambda shard: shard.with_name("manifest.json").unlink(), "its manifest.json is missing"),
    "gone": (lambda shard: shutil.rmtree(shard.parent), "it is gone"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_examples_are_written_from_the_same_snapshot_made_again(kind, folder, paths, caplog):
    night = again(folder, kind)
    records = {path.name: path.read_bytes() for path in night.iterdir()}
    damaging, problem = DAMAGES[kind]
    damaging(shard_of(night))
    assert run_node("examples", night, paths)
    assert problem in caplog.text and "the snapshot is made again from the night's downloads" in caplog.text
    assert snapshots(["verify", "taxi"]) == 0
    assert {name: (night / name).read_bytes() for name in records} == records
    assert not (night / "rejected.parquet").exists()


def test_the_data_gate_judges_the_same_snapshot_made_again(folder, paths):
    damage(shard_of(folder))
    assert GateResult.parse(run_node("data_gate", folder, paths), where="the data gate").passed
    assert snapshots(["verify", "taxi"]) == 0


def test_without_the_bodies_or_with_other_rows_the_error_says_what_to_clear(folder, paths, caplog):
    without = again(folder, "without-bodies")
    (without / "download.json").unlink()
    window_start = Night.load(folder / "request.json").as_of.replace(day=1, month=4)
    other = again(folder, "other-rows", window_start=window_start)
    shard_of(folder).unlink()
    for night, cause in ((without, "No such file"), (other, "the bodies now give the snapshot")):
        caplog.clear()
        with pytest.raises(DamagedSnapshotError, match=r"is missing\. Clear `snapshot`"):
            run_node("examples", night, paths)
        assert "it cannot be made again: " in caplog.text and cause in caplog.text
    assert run_node("examples", again(folder, "repaired"), paths)
