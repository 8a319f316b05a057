"""A whole night of data without a time column: every row, no day, and nothing about days among the findings."""

import pytest

from nightly.cli import snapshots
from nightly.records.night import GateResult
from nightly.records.verdict import Outcome, Verdict
from tests.support.example_models import DIGITS, Project

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_night_of_data_without_a_time_is_green(tmp_path, paths, capsys):
    project = Project.copied(tmp_path / "project")
    config = project.root / "include/models/digits/config.toml"
    text = config.read_text().replace(
        'time_column = "day"\nignore = ["id", "day"]', 'time_column = ""\nignore = ["id"]'
    )
    config.write_text(text)
    source = DIGITS.write(DIGITS.rows().drop(columns="day"), tmp_path)
    ((status, folder),) = project.nights(["digits", "--as-of", "2016-03-01", "--source", str(source)])
    verdict = Verdict.load(folder / "verdict.json")
    assert (status, verdict.outcome, verdict.rows) == (0, Outcome.ACCEPTED, 1797), verdict.summary
    checks = {reason.check for reason in GateResult.load(folder / "data_gate.json").reasons}
    assert "min_rows" in checks
    assert not checks & {"max_age_days", "max_missing_days", "max_doubled_days", "min_week_share"}
    assert snapshots.main(["list", "digits"]) == 0
    assert snapshots.main(["show", "digits", verdict.snapshot_id]) == 0
    assert "have no time" in capsys.readouterr().out
