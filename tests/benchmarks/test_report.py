"""The benchmarks' own parts: the same complaints for the same seed, and tables that come from the figures alone."""

import csv
import datetime as dt
import json
from dataclasses import asdict

import pytest

from benchmarks import charts, complaints, report, trips
from benchmarks.common import Goal, Result, interleaved, spread

DAY = dt.date(2016, 2, 29)
FACTS = {"date": "2026-01-02T03:04:05", "code": "abc", "cpu": "a CPU", "cores": 2, "memory_gb": 8, "system": "Linux"}
FACTS |= {"versions": {"tfx": "1.21.0"}}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_complaints_are_the_same_for_the_same_seed_and_can_be_learnt_from(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        complaints.write(tmp_path / name, 3000, seed=seed, last_day=DAY)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()
    found = rows(tmp_path / "a")
    assert len({row["complaint_id"] for row in found}) == 3000
    assert {row["date_received"][-4:] for row in found} == {"2016"}
    disputed = {
        via: [row["consumer_disputed"] == "Yes" for row in found if row["submitted_via"] == via]
        for via in ("Email", "Fax", "Phone")
    }
    shares = [sum(several) / len(several) for several in disputed.values()]
    assert 0.02 < min(shares) < max(shares) - 0.05


def test_trips_are_the_same_for_the_same_day_and_spread_evenly():
    days = list(trips.days(1000, DAY, 7))
    assert [day for day, _ in days] == [DAY + dt.timedelta(days=n) for n in range(7)]
    assert {batch.num_rows for _, batch in days} == {142, 143}
    assert all(batch.equals(again) for (_, batch), (_, again) in zip(days, trips.days(1000, DAY, 7), strict=True))
    assert [number for _, batch in days for number in batch["trip_id"].to_pylist()] == [*range(1000)]


def test_sides_take_turns_in_going_first():
    order = []
    found = interleaved(3, ours=lambda n: order.append(f"ours {n}") or n, tfx=lambda n: order.append(f"tfx {n}"))
    assert order == ["ours 0", "tfx 0", "tfx 1", "ours 1", "ours 2", "tfx 2"]
    assert found["ours"] == [0, 1, 2]


def test_a_spread_has_its_median_its_ends_and_its_runs():
    assert spread([3, 1, 2]) == "2.0 (1.0 to 3.0, 3 runs)"
    assert spread([1234.56]) == "1,234.6 (1 run)"


def test_a_result_goes_to_the_json_and_between_its_markers(tmp_path):
    document, results = tmp_path / "performance.md", tmp_path / "results.json"
    begin, end = "<!-- {}: written by `make bench` -->\nbefore\n", "<!-- /{} -->\n"
    document.write_text(
        "# P\n" + "".join(begin.format(n) + end.format(n) for n in ("goals", "facts", "start")) + "by hand\n"
    )
    goals = [Goal("start", 0.25, "s", at_most=1), Goal("faster", 12.0, "×", at_least=20)]
    result = asdict(Result(goals, {"Start": [{"warm": 0.25, "cold": 16, "started": "warm", "seconds": 0.25}]}, [])) | {
        "seconds": 3,
        "facts": FACTS,
    }
    report.keep("start", result, results, document)
    report.keep("start", result, results, document)  # again, in the same place
    text = document.read_text()
    assert text.startswith("# P") and text.endswith("by hand\n") and "before" not in text
    assert text.count("**not met**") == 1 and text.count("| met ") == 1
    assert (
        "| 0.25 | 16   | warm    | 0.25    |" in text and text.count("Measured on 2026-01-02 on 2 cores of a CPU") == 1
    )
    assert json.loads(results.read_text())["start"]["goals"][0]["met"] is True
    with pytest.raises(ValueError, match="has no place for 'parse'"):
        report.keep("parse", result, results, document)


def test_results_that_were_measured_elsewhere_say_so():
    results = {name: {"facts": FACTS} for name in ("night", "start")} | {"serving": {"facts": FACTS | {"cores": 4}}}
    text = report.facts(results)
    assert text.count("tfx 1.21.0") == 1 and "; code abc. serving: measured on 2026-01-02 on 4 cores of a CPU" in text


@pytest.mark.slow
def test_every_chart_is_in_the_document_and_the_same_for_the_same_results(tmp_path):
    text, known = report.DOCUMENT.read_text(), json.loads(report.RESULTS.read_text())
    for name in charts.CHARTS.keys() & known.keys():  # a new benchmark is not measured yet
        for file in charts.draw(name, known[name]["tables"], tmp_path / "a"):
            assert f"]({report.CHARTS}/{file})" in text and (report.DOCUMENT.parent / report.CHARTS / file).exists()
            charts.draw(name, known[name]["tables"], tmp_path / "b")
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_tasks_of_a_night_stand_beside_the_components_that_do_the_same():
    pytest.importorskip("tfx")
    from benchmarks.night import TFX, beside_tfx

    night = {"tasks": {"plan": 1, "examples": 2, "schema_review": 0}}  # the last one was skipped
    tfx = [{"components": dict.fromkeys(TFX.values(), 8)}]
    assert beside_tfx({"ours": [night], "tfx": tfx}) == [
        {"task": "plan", "ours, s": "1.0 (1 run)"},
        {"task": "examples", "ours, s": "2.0 (1 run)", "TFX's": "CsvExampleGen", "it, s": "8.0 (1 run)"},
    ]


def test_the_document_has_a_place_for_every_benchmark():
    from benchmarks.__main__ import NAMES

    text = report.DOCUMENT.read_text()
    for name in ("goals", "facts", *NAMES):
        assert f"<!-- {name}: written by `make bench` -->" in text
        assert f"<!-- /{name} -->" in text
