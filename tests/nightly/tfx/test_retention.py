"""Old runs' payloads go, and nothing else does."""

import pytest

from nightly.tfx.metadata import Artifact, Execution, NightlyMetadata
from nightly.tfx.retention import prune, remove_late
from tests.support.metadata import begin, run_with_an_artifact


def test_the_newest_runs_keep_theirs_and_what_lies_elsewhere_stays(paths, tmp_path):
    root = paths.pipeline / "taxi"
    with NightlyMetadata(paths, "taxi") as handle:
        for number in range(6):
            run_with_an_artifact(handle, f"night-{number}", root / "examples/examples" / str(number))
        run_with_an_artifact(handle, "night-0", tmp_path / "serving/taxi/17")
        assert prune(handle, root, keep=2) == 4
        assert prune(handle, root, keep=2) == 0
        assert sorted(p.name for p in (root / "examples/examples").iterdir()) == ["4", "5"]
        assert prune(handle, root, keep=1) == 1
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
        assert prune(handle, paths.pipeline / "taxi", keep=2) == 1
    assert sorted(path.name for path in taxi.iterdir()) == ["1", "2"]
    assert len(list(complaints.iterdir())) == 6


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
        remove_late(handle, paths.pipeline / "taxi")
    assert folder.exists() is stays
