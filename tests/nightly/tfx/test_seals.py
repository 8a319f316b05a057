"""A byte that changes between two steps of a real night: the next reader refuses it, and says what to do."""

import contextlib
import datetime as dt
from pathlib import Path

import pytest

from nightly.checks import gathering
from nightly.cli import night as nights
from nightly.io import space
from nightly.io.files import hash_files
from nightly.io.space import SpaceError
from nightly.records.night import GateResult, Night, SnapshotRef
from nightly.records.release import ReleaseRecord
from nightly.records.reuse import Reuse
from nightly.release.errors import DamagedError
from nightly.release.store import ReleaseStore
from nightly.statistics.files import read_controls
from nightly.tfx.runner import NightlyLauncher, run_node
from nightly.tfx.seals import DamagedArtifactError

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def paths(module_places):
    return module_places


@pytest.fixture(scope="module")
def folder(paths):
    """A whole night of real taxi trips, up to its release."""
    assert nights.main(["taxi", "--as-of", "2015-05-01", "--train-steps", "60"]) == 0
    (folder,) = (paths.nights / "taxi").iterdir()
    return folder


@contextlib.contextmanager
def flipped(path: Path):
    """A bit in the middle of a file is another one, and the right one again at the end."""
    flip(path)
    try:
        yield
    finally:
        flip(path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as file:  # the same inode, as a disk does it
        file.write(content)


def newest(paths, pattern: str) -> Path:
    """The last file of a pattern NODE/OUTPUT/*/…"""
    root = paths.pipeline / "taxi"
    files = [path for path in root.glob(pattern) if path.stat().st_size]
    return max(files, key=lambda path: int(path.relative_to(root).parts[2]))


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
def test_the_next_reader_refuses_a_flipped_byte(pattern, reader, maker, folder, paths):
    path = newest(paths, pattern)
    with flipped(path), pytest.raises(DamagedArtifactError) as caught:
        run_node(reader, folder, paths)
    assert f"{path.name} has changed" in str(caught.value)
    assert f"Clear `{maker}` with what is downstream" in str(caught.value)
    assert reader == "release" or run_node(reader, folder, paths)


def test_a_file_that_is_gone_or_new_is_refused_too(folder, paths):
    statistics = newest(paths, "statistics/statistics/*/Split-eval/FeatureStats.pb")
    aside = statistics.rename(statistics.with_name("other.pb"))
    with pytest.raises(DamagedArtifactError, match=r"FeatureStats.pb is missing; .*other.pb does not belong to it"):
        run_node("example_validator", folder, paths)
    aside.rename(statistics)
    assert run_node("example_validator", folder, paths)


def test_a_byte_flipped_after_all_validation_is_not_released(folder, paths, monkeypatch):
    """Between the check of the release's inputs and its own reading, too."""
    model, run = newest(paths, "trainer/model/*/Format-Serving/saved_model.pb"), NightlyLauncher._run_executor

    def flip_and_run(launcher, info):
        with flipped(model):
            return run(launcher, info)

    with monkeypatch.context() as patch:
        patch.setattr(NightlyLauncher, "_run_executor", flip_and_run)
        with pytest.raises(DamagedError, match=r"is not what was validated: saved_model\.pb has changed\. Nothing is"):
            run_node("release", folder, paths)
    assert ReleaseStore(paths.serving, paths.releases, "taxi").disk.released() == []


def test_what_is_released_has_the_hashes_that_the_trainer_recorded(folder, paths):
    record = ReleaseRecord.parse(run_node("release", folder, paths), where="release")
    trained = hash_files(newest(paths, "trainer/model/*/Format-Serving/saved_model.pb").parent)
    assert trained.items() <= record.files.items()
    assert hash_files(Path(record.path)) == record.files


def test_a_night_is_not_compared_with_damaged_statistics_or_rows(folder, paths):
    ref, night = SnapshotRef.load(folder / "snapshot.json"), Night.load(folder / "request.json")
    later = night.model_copy(update={"run_id": "a day later", "as_of": night.as_of + dt.timedelta(days=1)})
    later.save(later.folder(paths) / "request.json")
    ref.save(later.folder(paths) / "snapshot.json")
    for node in ("examples", "statistics", "schema", "example_validator", "drift_skew"):
        run_node(node, later.folder(paths), paths)
    measured = newest(paths, "drift_skew/anomalies/*/controls/controls.json").parent.parent
    (baseline,) = (paths.baselines / "taxi").glob("[0-9]*")
    with flipped(baseline / "Split-train/FeatureStats.pb"):
        control = next(control for control in read_controls(measured) if control.name == "last_accepted")
        assert "FeatureStats.pb has changed. Delete this folder" in control.missing and not control.folder
        run_node("drift_skew", later.folder(paths), paths)
        assert run_node("data_gate", later.folder(paths), paths)["passed"]
    reasons = GateResult.load(later.folder(paths) / "data_gate.json").reasons
    assert any("are damaged" in reason.message for reason in reasons)

    control = next(control for control in read_controls(measured) if control.name == "last_accepted")
    assert control.folder and gathering._rows_of(control, paths)
    with flipped(next(Path(ref.path).glob("rows-*.parquet"))):
        assert gathering._rows_of(control, paths) is None


def test_a_node_looks_for_room_before_it_runs(folder, paths, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(space, "SPARE_BYTES", 2**60)
        with pytest.raises(SpaceError, match=r"MB free, and drift_skew \(twice its last outputs\) needs"):
            run_node("drift_skew", folder, paths)
    assert run_node("drift_skew", folder, paths)


def test_a_damaged_artifact_is_not_reused(folder, paths):
    path = newest(paths, "statistics/statistics/*/Split-train/FeatureStats.pb")
    later = Night.load(folder / "request.json").model_copy(update={"run_id": "later"})
    later.save(later.folder(paths) / "request.json")
    SnapshotRef.load(folder / "snapshot.json").save(later.folder(paths) / "snapshot.json")
    run_node("examples", later.folder(paths), paths)
    flip(path)
    run_node("statistics", later.folder(paths), paths)
    reuse = Reuse.load(later.folder(paths) / Reuse.FILE.format("statistics"))
    assert not reuse.run_id and "is damaged or missing" in reuse.reason
