"""A night as one file that needs no other."""

import re

import pytest

from nightly.records.verdict import Outcome
from nightly_airflow.cli.report import main
from tests.support.written_nights import EVIL, FIRST, write_night


def test_the_report_holds_all_it_needs(paths, tmp_path, capsys):
    write_night(paths, 0, Outcome.HELD_DATA)
    out = tmp_path / "out/night.html"
    assert main(["taxi", f"scheduled__{FIRST.isoformat()}", "--out", str(out)]) == 0
    text = out.read_text()
    assert "Why it was held" in text
    assert "<script" not in text
    assert EVIL not in text
    assert not re.search(r'(src|href)="(?!#|http://airflow/)', text)
    assert "HELD_DATA" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["taxy", "y", "--out", "night.html"], "there is no model 'taxy'; did you mean 'taxi'?"),
        (["../x", "y", "--out", "night.html"], "there is no model '../x'"),
        (["taxi", "../../x", "--out", "night.html"], "taxi has no night of that name"),
        (["taxi", f"scheduled__{FIRST.isoformat()}", "--out", "file/night.html"], "file"),
        (["taxi", "y"], "one of the arguments --out --thresholds is required; see bin/report --help"),
    ],
)
def test_a_mistake_is_one_line(paths, tmp_path, monkeypatch, capsys, args, part):
    monkeypatch.chdir(tmp_path)
    write_night(paths, 0, Outcome.RELEASED)
    (tmp_path / "file").touch()
    try:
        status = main(args)
    except SystemExit as ended:
        status = ended.code
    error = capsys.readouterr().err
    assert status == 2 and error.startswith("bin/report: error: ") and part in error and error.count("\n") == 1
    assert not (tmp_path / "night.html").exists()


def test_the_thresholds_of_a_night_are_printed_with_what_changed(paths, capsys):
    write_night(paths, 0, Outcome.RELEASED)
    name = write_night(paths, 1, Outcome.RELEASED)
    assert main(["taxi", name, "--thresholds"]) == 0
    text = capsys.readouterr().out
    assert "code abc, schema the curated one (cdcdcdcdcdcd)" in text
    assert "  data_gate.min_rows = 600  (for this run only)\n" in text
    assert text.endswith("changed since the night of 2016-03-01: drift.payment_type 0.04 → 0.05\n")
    (paths.nights / "taxi" / name / "thresholds.json").unlink()
    assert main(["taxi", name, "--thresholds"]) == 2
    assert "has not been judged" in capsys.readouterr().err
