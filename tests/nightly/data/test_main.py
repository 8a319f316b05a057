"""The commands: what they print, and how they end."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from nightly.cli.data import main
from tests.support.data import TAXI
from tests.support.statistics import write

ROOT = Path(__file__).parents[3]


@pytest.fixture
def halves(trips, tmp_path):
    """The trips paid in cash, and all of them."""
    trips[trips["payment_type"] == "Cash"].to_csv(tmp_path / "cash.csv", index=False)
    return str(tmp_path / "cash.csv"), str(TAXI)


def test_statistics_are_a_table_json_or_a_file(tmp_path, capsys):
    assert main(["statistics", str(TAXI), "--out", str(tmp_path / "s.pb")]) == 0
    out = capsys.readouterr().out
    assert "15,002 rows, 19 features" in out
    assert re.search(r"payment_type +STRING +0\.0% +7 .*Cash 9,909, Credit Card 4,975", out)
    assert re.search(r"fare +FLOAT +0\.0% +0 +7\.85 +700\.1 +11\.77", out)
    assert main(["statistics", str(tmp_path / "s.pb"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["examples"] == 15_002
    assert {one["name"]: one["unique"] for one in told["features"]}["company"] == 61


def test_a_schema_is_inferred_shown_and_never_written_over(tmp_path, capsys):
    schema = tmp_path / "schema.pbtxt"
    assert main(["schema", "infer", str(TAXI), "--out", str(schema)]) == 0
    assert main(["schema", "infer", str(TAXI), "--out", str(schema)]) == 2
    assert "schema.pbtxt exists" in capsys.readouterr().err
    assert main(["validate", str(TAXI), "--schema", str(schema)]) == 0
    assert main(["schema", "show", "taxi"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"payment_type +BYTES +100% .*Cash, Credit Card.* 0\.05 +0\.1", out)


def test_validation_ends_with_1_and_names_each_anomaly(trips, tmp_path, capsys):
    trips.drop(columns="company").to_csv(tmp_path / "a.csv", index=False)
    assert main(["validate", str(tmp_path / "a.csv"), "--model", "taxi"]) == 1
    assert re.search(r"ERROR +company +Column dropped", capsys.readouterr().out)
    assert main(["validate", str(TAXI), "--model", "taxi", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.slow
def test_drift_and_skew_end_with_1_and_name_the_values(halves, capsys):
    for command in ("drift", "skew"):
        assert main([command, *halves, "--model", "taxi"]) == 1
        first = capsys.readouterr().out.splitlines()[2]
        assert re.search(r"^BEYOND +(payment_type|big_tipper)", first)
    assert main(["drift", *halves, "--model", "taxi", "--all", "1"]) == 0
    assert main(["drift", *halves, "--threshold", "payment_type=0.3"]) == 1  # without a schema: this feature only
    lines = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r"BEYOND +payment_type +L-infinity +0\.33.*Credit Card 0\.0% \(33\.2%\)|Cash 100\.0%", lines)
    assert main(["drift", str(TAXI), str(TAXI), "--model", "taxi", "--json"]) == 0


def test_comparing_judges_only_by_thresholds_that_are_given(halves, capsys):
    assert main(["compare", *halves]) == 0
    assert "BEYOND" not in capsys.readouterr().out
    assert main(["compare", *halves, "--all", "0.2", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert {one["feature"] for one in told["features"] if not one["passed"]} >= {"payment_type"}


def test_converting_says_what_was_written(tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["convert", str(TAXI), out, "--split", "train=80,eval=20", "--model", "taxi", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert sum(rows.values()) == 15_002
    assert main(["statistics", f"{out}/Split-eval", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == rows["eval"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["statistics", "gone.csv"], "gone.csv does not exist"),
        (["statistics", str(TAXI), "--model", "taxy"], "did you mean 'taxi'"),
        (["statistics", str(TAXI), "--dry-run"], "--dry-run is for a Beam runner: give --runner"),
        (["statistics", str(TAXI), "--", "--x=1"], "options after -- are for a Beam runner"),
        (
            ["statistics", str(TAXI), "--runner", "DirectRunner", "--", "--direct_num_worker=2"],
            "did you mean '--direct_num_workers'",
        ),
        (["validate", str(TAXI)], "give --schema FILE or --model NAME"),
        (["drift", str(TAXI), str(TAXI)], "no drift_comparator"),
        (["drift", str(TAXI), str(TAXI), "--threshold", "fair=1"], "did you mean 'fare'"),
        (["statistics", str(TAXI), "--out", "x.html"], "name it x.pb"),
        (["statistics", str(TAXI), "--out", f"{TAXI}/x.pb"], "data.csv"),
        (["validate", str(TAXI), "--schema", "gone.pbtxt"], "--out gone.pbtxt` writes a first one"),
        (["schema", "infer", str(TAXI), "--out", f"{TAXI}/s.pbtxt"], "data.csv"),
        (["schema", "infer", str(TAXI), "--out", str(TAXI)], "exists and may have been edited"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_to_do(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["drift", "a", "b", "--all", "2"],
        ["convert", "a", "b", "--split", "train"],
        ["x"],
        ["drift", "a", "b", "--min-rows", "-1"],
        ["convert", "a", "b", "--shards", "0"],
    ],
)
def test_wrong_words_end_with_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


@pytest.mark.slow
def test_the_command_runs_from_anywhere_and_helps_at_once(tmp_path):
    write(tmp_path / "a.csv", "a\n1\n")
    done = subprocess.run([ROOT / "bin/data", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "bin/data statistics DATA" in done.stdout
    done = subprocess.run([ROOT / "bin/data", "statistics", "a.csv", "--json"], cwd=tmp_path, capture_output=True)
    assert json.loads(done.stdout)["examples"] == 1
