"""A model that is judged by the newest days, trained again on all rows, and released."""

from pathlib import Path

import pytest

from nightly.records.evaluation import Evaluation
from nightly.records.label_spec import LABEL_SPEC, LabelSpec
from nightly.records.release import JUDGED, ReleaseRecord
from nightly.records.reuse import Reuse
from nightly.records.verdict import Outcome, Verdict
from nightly.tfx.components.evaluator import judged_model
from tests.support.data import TAXI
from tests.support.example_models import Project

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def nights(server, tmp_path_factory) -> list[Path]:
    """The folders of two nights of taxi, a day apart."""
    project = Project.copied(tmp_path_factory.mktemp("refit") / "project")
    config = project.root / "include/models/taxi/config.toml"
    text = config.read_text().replace("eval_percent = 20", 'eval_percent = 20\neval = "newest"')
    config.write_text(text.replace("[training]\n", "[training]\nrefit = true\n"))
    words = ["taxi", "--release", "--source", str(TAXI), "--train-steps", "100", "--as-of"]
    return [folder for _, folder in project.nights([*words, "2015-06-01"], [*words, "2015-06-08"])]


def test_the_released_model_is_trained_on_all_rows_and_says_that_it_is_not_the_judged_one(nights, server):
    verdict = Verdict.load(nights[0] / "verdict.json")
    assert verdict.outcome is Outcome.RELEASED, verdict.summary
    assert verdict.summary.endswith("trained again on all rows after its gate")
    version = server.paths.serving / "taxi" / str(verdict.version)
    released, judged = LabelSpec.load(version / LABEL_SPEC), LabelSpec.load(version / JUDGED / LABEL_SPEC)
    assert released.rows == verdict.rows
    assert 0.7 * released.rows < judged.rows < 0.81 * released.rows
    assert ReleaseRecord.load(server.paths.releases / f"taxi/{verdict.version}.json").refitted


def test_the_next_night_is_compared_with_the_judged_model(nights, server):
    first, second = (Verdict.load(folder / "verdict.json") for folder in nights)
    version = server.paths.serving / "taxi" / str(first.version)
    assert judged_model(version) == version / JUDGED
    assert judged_model(version / JUDGED) == version / JUDGED, "a version that was not trained again"
    evaluation = Evaluation.load(nights[1] / "evaluation.json")
    assert evaluation.production_version == first.version
    assert second.outcome in (Outcome.RELEASED, Outcome.HELD_MODEL)
    assert (nights[1] / Reuse.FILE.format("refit")).exists() is (second.outcome is Outcome.RELEASED)
