"""Nights that find the files in production damaged: real nights of taxi trips, real releases."""

import shutil
from pathlib import Path

import pytest

from nightly.cli import night as nights
from nightly.cli.releases import main
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.nights.report import report
from nightly.records.evaluation import Evaluation
from nightly.records.night import GateResult, Night, Reason
from nightly.records.release import ReleaseRecord
from nightly.records.verdict import Outcome, Verdict
from nightly.release.store import ReleaseStore
from nightly.serving.confirmation import NOT_CONFIRMED

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DATA = "variables/variables.data-00000-of-00001"


@pytest.fixture(scope="module")
def paths(released: Paths) -> Paths:
    return released


def store(paths: Paths) -> ReleaseStore:
    return ReleaseStore(paths.serving, paths.releases, "taxi")


def damage(paths: Paths, name: str) -> ReleaseRecord:
    """Flip a byte of a file in production, as a disk does: no other name of the file, no other time."""
    record = store(paths).disk.record(store(paths).disk.production())
    path = Path(record.path) / name
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 0xFF
    path.write_bytes(body)
    return record


def forget_copies(paths: Paths, record: ReleaseRecord, name: str) -> None:
    """Remove every file of that name from the pipeline's artifacts, as retention does."""
    for path in paths.pipeline.rglob(Path(name).name):
        path.unlink()


def night(paths: Paths, as_of: str, *more: str) -> tuple[int, Path]:
    before = set((paths.nights / "taxi").iterdir())
    status = nights.main(["taxi", "--as-of", as_of, "--release", *more])
    (folder,) = set((paths.nights / "taxi").iterdir()) - before
    return status, folder


def finding(folder: Path) -> Reason:
    (found,) = [r for r in GateResult.load(folder / "model_gate.json").reasons if r.check == "production"]
    return found


def test_a_night_repairs_production_from_the_artifact_that_was_released(paths, capsys):
    record = damage(paths, DATA)
    status, folder = night(paths, "2014-02-02")

    planned, verdict = Night.load(folder / "request.json"), Verdict.load(folder / "verdict.json")
    assert (status, verdict.outcome) == (NOT_CONFIRMED, Outcome.RELEASED)
    assert store(paths).disk.verify(record.version) and not list(store(paths).disk.folder.glob(".*"))
    assert (planned.production_version, planned.damaged_version) == (record.version, None)
    assert f"version {record.version} in production was damaged, and is repaired: {DATA} from" in planned.damage
    assert Evaluation.load(folder / "evaluation.json").production_version == record.version
    assert (finding(folder).figure, finding(folder).held) == ("repaired", False)
    assert verdict.damage == planned.damage and "was damaged, and is repaired" in " ".join(report(verdict).split())


def test_without_a_whole_copy_a_night_is_held_where_the_config_asks_for_it(paths, monkeypatch):
    record = damage(paths, "saved_model.pb")
    forget_copies(paths, record, "saved_model.pb")
    hold = load_config("taxi").with_overrides({"model_gate.damaged_production": "hold"})
    monkeypatch.setattr("nightly.models.load_config", lambda name: hold)
    status, folder = night(paths, "2014-02-03")

    verdict = Verdict.load(folder / "verdict.json")
    assert (status, verdict.outcome) == (3, Outcome.HELD_MODEL)
    assert f"taxi {record.version} is damaged (saved_model.pb has changed), and no whole copy is in" in verdict.summary
    assert (finding(folder).figure, finding(folder).held) == ("damaged", True)
    assert store(paths).disk.production() == record.version


def test_without_a_whole_copy_a_night_is_judged_as_a_first_one_and_releases(paths, capsys):
    damaged = store(paths).disk.production()
    assert main(["verify", "taxi"]) == 1
    assert f"what to do: bin/releases repair taxi {damaged}" in capsys.readouterr().err
    assert main(["repair", "taxi"]) == 1
    assert "no whole copy is in" in (said := capsys.readouterr().err) and "model_gate.damaged_production" in said
    shutil.rmtree(paths.pipeline / "taxi")  # the artifacts of all nights, and so their copies

    status, folder = night(paths, "2014-02-04")

    planned, verdict = Night.load(folder / "request.json"), Verdict.load(folder / "verdict.json")
    assert (status, verdict.outcome) == (NOT_CONFIRMED, Outcome.RELEASED)
    assert (planned.production_version, planned.damaged_version) == (None, damaged)
    assert planned.damage.endswith(
        "the model is judged by its fixed bounds and the constant answer alone, as in a first night"
    )
    assert Evaluation.load(folder / "evaluation.json").production is None
    assert (finding(folder).figure, finding(folder).held) == ("damaged", False)
    assert ReleaseRecord.load(folder / "release.json").previous_version == damaged
    unjudged = [r.message for r in GateResult.load(folder / "model_gate.json").reasons if r.check == "change"]
    assert unjudged == [f"the change against production was not judged: version {damaged} in production is damaged"]


def test_the_command_repairs_a_version_once_a_whole_copy_is_there(paths, tmp_path, capsys):
    record = store(paths).disk.record(store(paths).disk.production())
    folder = Path(record.path)
    whole = paths.pipeline / "taxi" / "restored"
    shutil.copytree(folder, whole)
    (folder / "saved_model.pb").write_bytes(b"half")
    shutil.rmtree(folder / "variables")
    (folder / "a file that somebody left").touch()

    assert main(["repair", "taxi", str(record.version)]) == 0

    said = capsys.readouterr().out
    assert f"taxi {record.version} repaired:" in said and "a file that somebody left is gone" in said
    assert store(paths).disk.verify(record.version) == record
    assert main(["repair", "taxi", str(record.version)]) == 0
    assert "is as it was released" in capsys.readouterr().out
