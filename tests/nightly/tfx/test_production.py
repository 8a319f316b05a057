"""A night whose production changes after it was planned: real nights of taxi trips, real releases."""

import shutil
from pathlib import Path

import pytest

from nightly.cli import night as nights
from nightly.io.paths import Paths
from nightly.records.evaluation import Evaluation
from nightly.records.night import GateResult, Night
from nightly.records.release import NotReleased, ReleaseRecord, Split
from nightly.release.errors import ProductionChanged
from nightly.release.store import ReleaseStore
from nightly.runtime import worker
from nightly.serving.confirmation import NOT_CONFIRMED
from nightly.tfx import production
from tests.support.releases import NOW, export, origin, release

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def paths(released: Paths) -> Paths:
    return released


def store(paths: Paths) -> ReleaseStore:
    return ReleaseStore(paths.serving, paths.releases, "taxi")


def night(paths: Paths, as_of: str, until: str) -> Path:
    before = set((paths.nights / "taxi").iterdir())
    assert nights.main(["taxi", "--as-of", as_of, "--release", "--until", until]) == 0
    (folder,) = set((paths.nights / "taxi").iterdir()) - before
    return folder


def another_release(paths: Paths, folder: Path, run_id: str) -> ReleaseRecord:
    """Another run releases a model of its own: production's, and a file more."""
    source = Path(store(paths).disk.record(store(paths).disk.production()).path)
    shutil.copytree(source, folder)
    (folder / "assets.extra" / run_id).write_text("another")
    return release(store(paths), folder, run_id)


def run(step: str, folder: Path, paths: Paths) -> dict:
    return worker.step_function(step)(folder, paths)


def test_the_model_gate_judges_again_and_says_so(paths, tmp_path):
    planned = store(paths).disk.production()
    folder = night(paths, "2014-02-02", "evaluator")
    promoted = another_release(paths, tmp_path / "other", "promoted-meanwhile").version

    gate = GateResult.parse(run("model_gate", folder, paths), where="test")

    assert Evaluation.load(folder / "evaluation.json").production_version == promoted
    (note,) = [reason for reason in gate.reasons if reason.check == "production"]
    assert note.message == (
        f"judged against version {promoted}: in production when the night was planned was version {planned}"
    )
    assert gate.passed
    run("infra_validator", folder, paths)
    assert run("release", folder, paths)["previous_version"] == promoted


def test_a_rollback_between_judging_and_the_rename_is_noticed_under_the_lock(paths, monkeypatch):
    folder = night(paths, "2014-02-03", "infra_validator")
    planned = store(paths).disk.production()
    back = store(paths).disk.released()[-2]
    run_node = production.run_node
    asked = []

    def rolled_back_first(step: str, *rest) -> dict:
        if step == "release" and not asked:
            store(paths).roll_back(back, "meanwhile")
        asked.append(step)
        return run_node(step, *rest)

    monkeypatch.setattr(production, "run_node", rolled_back_first)
    record = run("release", folder, paths)

    assert record["previous_version"] == back and Night.load(folder / "request.json").production_version == back
    assert asked == ["release", "model_gate", "evaluator", "model_gate", "release"]
    gate = GateResult.load(folder / "model_gate.json")
    assert f"planned was version {planned}" in next(r.message for r in gate.reasons if r.check == "production")


def test_production_that_was_trained_with_another_split_is_not_compared(paths):
    record = store(paths).disk.record(store(paths).disk.production())
    columns = record.split.columns  # trips have no id, so all columns are hashed
    assert record.split == Split(eval="hash", columns=columns, eval_percent=20) and "fare" in columns
    smaller = record.split.model_copy(update={"eval_percent": 10})
    record.model_copy(update={"split": smaller}).save(store(paths).disk.record_path(record.version))
    try:
        evaluation = Evaluation.load(night(paths, "2014-02-05", "model_gate") / "evaluation.json")
    finally:
        record.save(store(paths).disk.record_path(record.version))
    assert evaluation.production is None and evaluation.production_version == record.version
    assert evaluation.unmeasured.startswith(
        f"version {record.version} in production was trained with another split, so it may have seen examples of this "
        f"one: held out were 10 % by a hash of {columns[0]}, {columns[1]}, "
    )


def test_a_night_that_is_worse_than_the_new_production_is_held(paths, tmp_path, monkeypatch):
    folder = night(paths, "2014-02-04", "infra_validator")
    another_release(paths, tmp_path / "better", "better")
    # What is in production meanwhile is much better than all bounds allow.
    monkeypatch.setattr(production, "Night", _Demanding)
    gate = GateResult.parse(run("release", folder, paths), where="test")

    assert not gate.passed and GateResult.load(folder / "model_gate.json") == gate
    assert "the model gate, again, held it" in NotReleased.load(folder / NotReleased.FILE).reason
    assert not (folder / "release.json").exists()


class _Demanding:
    """Reads the request, and asks more of the model from now on."""

    FILE = Night.FILE

    @staticmethod
    def load(path: Path) -> Night:
        return Night.load(path).model_copy(
            update={"overrides": {"model_gate.metrics.auc.floor": 0.9999}, "override_reason": "a test"}
        )


def test_a_model_that_was_rolled_back_stays_so_for_the_same_data_computed_anew(paths, capsys):
    assert nights.main(["taxi", "--as-of", "2014-02-07", "--release"]) == NOT_CONFIRMED
    withdrawn = store(paths).disk.production()
    store(paths).roll_back(store(paths).disk.released()[-2], "callers complain")

    assert nights.main(["taxi", "--as-of", "2014-02-07", "--release", "--fresh"]) == 3

    said = " ".join(capsys.readouterr().out.split())  # the report wraps its lines
    assert "! HELD_MODEL: " in said and f"version {withdrawn}, which was taken back" in said
    assert store(paths).disk.production() < withdrawn
    assert nights.main(["taxi", "--as-of", "2014-02-07", "--release", "--train-steps", "290"]) == NOT_CONFIRMED


def test_what_a_night_released_itself_is_no_change(paths):
    record = store(paths).disk.records()[0]
    folder = paths.night("taxi", "again")
    planned = Night.load(next((paths.nights / "taxi").iterdir()) / "request.json")
    planned.model_copy(
        update={"run_id": store(paths).disk.record(store(paths).disk.production()).run_id, "production_version": None}
    ).save(folder / "request.json")
    production.follow(folder, paths)
    assert Night.load(folder / "request.json").production_version is None and record


def test_the_store_refuses_a_model_that_was_judged_against_another_version(tmp_path):
    plain = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    first = release(plain, export(tmp_path / "a", "a"), "run-1")
    for judged_against in (None, NOW - 1):
        with pytest.raises(ProductionChanged, match="meanwhile version"):
            plain.release(export(tmp_path / "b", "b"), origin("run-2"), judged_against=judged_against)
    assert plain.disk.released() == [first.version]
    second = plain.release(export(tmp_path / "b", "b"), origin("run-2"), judged_against=first.version)
    again = plain.release(export(tmp_path / "b", "b"), origin("run-2"), judged_against=first.version)
    assert again == second, "a retry of what this run released is no change"


def test_a_rollback_while_the_evaluator_reads_production_does_not_take_it_away(paths, tmp_path, monkeypatch):
    another_release(paths, tmp_path / "newer", "newer")
    folder = night(paths, "2014-02-09", "trainer")
    back, judged = store(paths).disk.released()[-2:]
    run_node = production.run_node

    def rolled_back_first(step: str, *rest) -> dict:
        monkeypatch.setattr(production, "run_node", run_node)
        store(paths).roll_back(back, "meanwhile")
        return run_node(step, *rest)

    monkeypatch.setattr(production, "run_node", rolled_back_first)
    run("evaluator", folder, paths)
    assert not (paths.serving / "taxi" / str(judged)).exists()
    assert GateResult.parse(run("model_gate", folder, paths), where="test").passed
    assert Evaluation.load(folder / "evaluation.json").production_version == back
