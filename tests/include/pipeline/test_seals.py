"""A byte that changes between two steps of a real night: the next reader refuses it, and says what to do."""

from pathlib import Path

import pytest

from include.contracts.night import Night, SnapshotRef
from include.contracts.places import Places
from include.contracts.release import ReleaseRecord
from include.contracts.reuse import REUSE, Reuse
from include.pipeline import night as nights
from include.pipeline.runner import NightlyLauncher, run_node
from include.pipeline.seals import DamagedArtifactError
from include.release.errors import DamagedError
from include.release.files import hash_files
from include.release.store import ReleaseStore
from include.snapshots.errors import DamagedSnapshotError


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTLY_VAR", str(tmp_path_factory.mktemp("var")))
        yield Places.from_environment()


@pytest.fixture(scope="module")
def folder(places):
    """A whole night of real taxi trips, up to its release."""
    assert nights.main(["taxi", "--as-of", "2015-05-01", "--train-steps", "60"]) == 0
    (folder,) = (places.nights / "taxi").iterdir()
    return folder


@pytest.fixture
def flipped():
    """Flips a bit in the middle of a file, and back again at the end."""
    changed = []

    def flip(path: Path) -> Path:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        with path.open("r+b") as file:  # the same inode, as a disk does it
            file.write(content)
        changed.append(path)
        return path

    yield flip
    for path in changed:
        flip(path)


KINDS = [
    ("examples/examples/*/Split-train/data_tfrecord*", "statistics", "examples"),
    ("statistics/statistics/*/Split-train/FeatureStats.pb", "example_validator", "statistics"),
    ("statistics/statistics/*/Split-train/FeatureStats.pb", "drift_skew", "statistics"),
    ("schema/schema/*/schema.pbtxt", "data_gate", "schema"),
    ("example_validator/anomalies/*/Split-train/SchemaDiff.pb", "data_gate", "example_validator"),
    ("transform/transform_graph/*/transform_fn/saved_model.pb", "trainer", "transform"),
    ("transform/transformed_examples/*/Split-train/*", "trainer", "transform"),
    ("trainer/model/*/Format-Serving/saved_model.pb", "evaluator", "trainer"),
    ("trainer/model/*/Format-Serving/saved_model.pb", "infra_validator", "trainer"),
    ("evaluator/evaluation/*/evaluation.json", "model_gate", "evaluator"),
    ("infra_validator/servable/*/Format-Serving/variables/variables.data*", "release", "infra_validator"),
]


@pytest.mark.parametrize(("pattern", "reader", "maker"), KINDS, ids=[f"{m} to {r}" for _, r, m in KINDS])
def test_the_next_reader_refuses_a_flipped_byte(pattern, reader, maker, folder, places, flipped):
    paths = [path for path in (places.pipeline / "taxi").glob(pattern) if path.stat().st_size]
    path = flipped(max(paths, key=lambda path: path.stat().st_mtime))
    with pytest.raises(DamagedArtifactError) as caught:
        run_node(reader, folder, places)
    assert f"{path.name} has changed" in str(caught.value)
    assert f"Clear `{maker}` with what is downstream" in str(caught.value)


def test_a_file_that_is_gone_or_new_is_refused_too(folder, places):
    statistics = next((places.pipeline / "taxi/statistics/statistics").glob("*/Split-eval/FeatureStats.pb"))
    aside = statistics.rename(statistics.with_name("other.pb"))
    with pytest.raises(DamagedArtifactError, match=r"FeatureStats.pb is missing; .*other.pb does not belong to it"):
        run_node("example_validator", folder, places)
    aside.rename(statistics)
    assert run_node("example_validator", folder, places)


def test_a_flipped_byte_of_the_snapshot_is_not_trained_on(folder, places, flipped):
    ref = SnapshotRef.load(folder / "snapshot.json")
    flipped(next(Path(ref.path).glob("rows-*.parquet")))
    fresh = Night.load(folder / "request.json").model_copy(update={"run_id": "fresh", "fresh": True})
    fresh.save(fresh.folder(places) / "request.json")
    ref.save(fresh.folder(places) / "snapshot.json")
    for reader, night in (("examples", fresh.folder(places)), ("data_gate", folder)):
        with pytest.raises(DamagedSnapshotError, match=r"has changed\. Clear `snapshot`"):
            run_node(reader, night, places)


def test_a_byte_flipped_after_all_validation_is_not_released(folder, places, flipped, monkeypatch):
    """Between the check of the release's inputs and its own reading, too."""
    (model,) = (places.pipeline / "taxi/trainer/model").glob("*/Format-Serving/saved_model.pb")
    run = NightlyLauncher._run_executor

    def flip_and_run(launcher, info):
        flipped(model)
        return run(launcher, info)

    monkeypatch.setattr(NightlyLauncher, "_run_executor", flip_and_run)
    with pytest.raises(DamagedError, match=r"is not what was validated: saved_model\.pb has changed\. Nothing is"):
        run_node("release", folder, places)
    assert ReleaseStore(places.serving, places.releases, "taxi").versions() == []


def test_what_is_released_has_the_hashes_that_the_trainer_recorded(folder, places):
    record = ReleaseRecord.parse(run_node("release", folder, places), where="release")
    (model,) = (places.pipeline / "taxi/trainer/model").glob("*/Format-Serving")
    trained = hash_files(model)
    assert trained.items() <= record.files.items()
    assert hash_files(Path(record.path)) == record.files


def test_damage_is_mended_by_running_the_named_node_again(folder, places, flipped):
    (path,) = (places.pipeline / "taxi/statistics/statistics").glob("*/Split-train/FeatureStats.pb")
    flipped(path)
    run_node("statistics", folder, places)
    assert "damaged" in Reuse.load(folder / REUSE.format("statistics")).reason
    assert run_node("example_validator", folder, places)
