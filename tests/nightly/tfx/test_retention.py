"""Old runs' payloads go, and nothing else does."""

import os
import time
import uuid

import pytest

from nightly.tfx.metadata import Artifact, Execution, NightlyMetadata
from nightly.tfx.retention import prune, remove_leftovers
from tests.support.metadata import begin, run_with_an_artifact
from tests.support.nights import a_night


def test_the_newest_runs_keep_theirs_and_what_lies_elsewhere_stays(paths, tmp_path):
    root = paths.pipeline / "taxi"
    with NightlyMetadata(paths, "taxi") as handle:
        for number in range(6):
            run_with_an_artifact(handle, f"night-{number}", root / "examples/examples" / str(number))
        run_with_an_artifact(handle, "night-0", tmp_path / "serving/taxi/17")
        assert prune(handle, paths, "taxi", keep=2) == 4
        assert prune(handle, paths, "taxi", keep=2) == 0
        assert sorted(p.name for p in (root / "examples/examples").iterdir()) == ["4", "5"]
        assert prune(handle, paths, "taxi", keep=1) == 1
        assert (tmp_path / "serving/taxi/17/payload").exists()
        gone = [a for a in handle.store.get_artifacts() if a.state == Artifact.DELETED]
    assert len(gone) == 5


def test_the_runs_of_another_model_in_the_same_database_are_not_counted_and_keep_theirs(paths):
    taxi, complaints = (paths.pipeline / model / "examples/examples" for model in ("taxi", "complaints"))
    with NightlyMetadata(paths, "taxi") as handle:
        for number in range(3):
            run_with_an_artifact(handle, f"night-{number}", taxi / str(number))
            run_with_an_artifact(handle, f"night-{number}", complaints / str(number))
        for number in range(3, 6):
            run_with_an_artifact(handle, f"night-{number}", complaints / str(number))
        assert prune(handle, paths, "taxi", keep=2) == 1
    assert sorted(path.name for path in taxi.iterdir()) == ["1", "2"]
    assert len(list(complaints.iterdir())) == 6


@pytest.mark.parametrize(("days", "left"), [(1, ["0", "3"]), (40, ["3"])])
def test_an_unfinished_night_keeps_its_artifacts_unless_it_was_given_up_long_ago(paths, days, left):
    root = paths.pipeline / "taxi/examples/examples"
    request = a_night(run_id="night/0").save(paths.night("taxi", "night/0") / "request.json")
    changed = time.time() - days * 24 * 3600
    os.utime(request, (changed, changed))
    with NightlyMetadata(paths, "taxi") as handle:
        for number in range(4):
            run_with_an_artifact(handle, f"night/{number}", root / str(number))
        prune(handle, paths, "taxi", keep=1)
    assert sorted(path.name for path in root.iterdir()) == left


@pytest.mark.parametrize("name", ["request.json", "trainer.running"])
def test_an_old_night_that_runs_again_after_its_verdict_keeps_its_artifacts(paths, name):
    root, folder = paths.pipeline / "taxi/examples/examples", paths.night("taxi", "night-0")
    a_night(run_id="night-0").save(folder / "request.json")
    for file, seconds in [("request.json", 1), ("verdict.json", 2), (name, 3)]:
        (folder / file).touch()
        os.utime(folder / file, (seconds, seconds))
    with NightlyMetadata(paths, "taxi") as handle:
        for number in range(4):
            run_with_an_artifact(handle, f"night-{number}", root / str(number))
        prune(handle, paths, "taxi", keep=1)
    assert sorted(path.name for path in root.iterdir()) == ["0", "3"]


def test_the_pinned_production_model_goes_with_its_night(paths):
    """Also that of a night without data, which has no artifacts."""
    root = paths.pipeline / "taxi/production_model"
    for run_id in ("ended/1", "kept", "unfinished", "of-another-host"):
        folder = paths.night("taxi", run_id)
        (root / f"{folder.name}-17/variables").mkdir(parents=True)
        if run_id != "of-another-host":
            a_night(run_id=run_id).save(folder / "request.json")
        if run_id != "unfinished":
            (folder / "verdict.json").parent.mkdir(exist_ok=True)
            (folder / "verdict.json").touch()
    with NightlyMetadata(paths, "taxi") as handle:
        run_with_an_artifact(handle, "kept", paths.pipeline / "taxi/examples/examples/1")
        prune(handle, paths, "taxi", keep=1)
    assert sorted(path.name for path in root.iterdir()) == ["kept-17", "of-another-host-17", "unfinished-17"]


def test_a_run_is_as_old_as_its_newest_artifact(paths):
    root = paths.pipeline / "taxi/examples/examples"
    with NightlyMetadata(paths, "taxi") as handle:
        for number, night in enumerate(["night-0", "night-1", "night-2", "night-0"]):
            run_with_an_artifact(handle, night, root / str(number))
        prune(handle, paths, "taxi", keep=2)
    assert sorted(path.name for path in root.iterdir()) == ["0", "2", "3"]


@pytest.mark.parametrize(
    ("state", "stays"),
    [("CANCELED", False), ("FAILED", False), ("RUNNING", True), ("COMPLETE", True)],
)
def test_what_workers_write_after_their_node_has_ended_goes(paths, state, stays):
    with NightlyMetadata(paths, "taxi") as handle:
        execution, _ = begin(handle, "night")
        execution.last_known_state = Execution.State.Value(state)
        handle.store.put_executions([execution])
        folder = paths.pipeline / "taxi/examples/examples" / str(execution.id)
        (folder / "Split-train").mkdir(parents=True)
        (folder / "Split-train/data-00003").touch()
        remove_leftovers(handle, paths.pipeline / "taxi")
    assert folder.exists() is stays


@pytest.mark.parametrize(
    ("state", "stays"),
    [("CANCELED", False), ("FAILED", False), ("COMPLETE", False), ("RUNNING", True), ("NEW", True)],
)
def test_what_tfx_keeps_of_an_execution_goes_when_it_has_ended(paths, state, stays):
    system = paths.pipeline / "taxi/trainer/.system"
    with NightlyMetadata(paths, "taxi") as handle:
        execution, _ = begin(handle, "night")
        execution.last_known_state = Execution.State.Value(state)
        handle.store.put_executions([execution])
        folders = [system / f"{kind}/{execution.id}" for kind in ("executor_execution", "stateful_working_dir")]
        for folder in folders:
            (folder / ".temp").mkdir(parents=True)
            (folder / ".temp/of-a-job").touch()
        (system / "executor_execution/4711").mkdir()
        remove_leftovers(handle, paths.pipeline / "taxi")
    assert [folder.exists() for folder in folders] == [stays, stays]
    assert (system / "executor_execution/4711").exists(), "another database knows it"


def test_working_folders_of_earlier_versions_go_when_nothing_has_changed_in_them_for_long(paths):
    system = paths.pipeline / "taxi/trainer/.system/stateful_working_dir"
    old, used, new, own = (system / name for name in (*(str(uuid.uuid4()) for _ in range(3)), "of-a-person"))
    for folder in (old, used, new, own):
        (folder / "checkpoint").mkdir(parents=True)
        (folder / "checkpoint/weights").touch()
    long_ago = time.time() - 31 * 24 * 3600
    for folder in (old, used, own):
        for path in (folder / "checkpoint/weights", folder / "checkpoint", folder):
            os.utime(path, (long_ago, long_ago))
    (used / "checkpoint/weights").touch()
    with NightlyMetadata(paths, "taxi") as handle:
        remove_leftovers(handle, paths.pipeline / "taxi")
    assert [folder.exists() for folder in (old, used, new, own)] == [False, True, True, True]
