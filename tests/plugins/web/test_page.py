"""The page asks for Airflow's log-in, shows what is on disk and nothing else, and survives damaged records."""

import re

import pytest

from include.contracts.verdict import Outcome
from tests.plugins.web.nights import EVIL, write_night, write_release, write_rollback, write_snapshot

PAGES = ["/nightly/", "/nightly/taxi", "/nightly/taxi/nights/x", "/nightly/taxi/nights/x/report"]
PAGES += ["/nightly/taxi/snapshots/x", "/nightly/taxi/releases/1", "/nightly/dags/taxi_retrain/runs/x"]


@pytest.mark.parametrize("path", PAGES)
def test_nobody_sees_a_page_without_a_log_in(ask, places, path):
    answer = ask(path, role="")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/api/v2/auth/login?next={path}"
    assert ask(path, role="", accept="application/json").status_code == 401


@pytest.mark.parametrize("path", PAGES[1:])
def test_who_may_not_read_the_dags_runs_sees_nothing_of_the_model(ask, places, path):
    write_night(places, 0, Outcome.RELEASED)
    answer = ask(path, role=None)
    assert answer.status_code == 403
    assert "You may not" in answer.text


def test_the_overview_leaves_out_what_one_may_not_read(ask, places):
    write_night(places, 0, Outcome.RELEASED)
    assert "taxi" not in ask("/nightly/", role=None).text
    assert "taxi" in ask("/nightly/").text


def test_a_forged_log_in_is_refused(airflow, places):
    from fastapi.testclient import TestClient

    client = TestClient(airflow, cookies={"_token": "a.b.c"}, follow_redirects=False)
    assert client.get("/nightly/").status_code == 403


def test_before_the_first_night_the_pages_say_so(ask, places):
    assert "no night has ended yet" in ask("/nightly/").text
    answer = ask("/nightly/taxi")
    assert answer.status_code == 200
    assert "No night has begun yet" in answer.text
    assert "No version has been released yet" in answer.text


def test_a_model_shows_its_nights_releases_and_rollbacks(ask, places):
    name = write_night(places, 0, Outcome.RELEASED)
    write_night(places, 1, Outcome.HELD_DATA)
    write_release(places, 1456800000)
    write_release(places, 1456800001, state="quarantined")
    write_rollback(places, 1456800000)
    text = ask("/nightly/taxi").text
    assert f'href="/nightly/taxi/nights/{name}"' in text
    assert "March 2016" in text
    assert 'aria-label="2016-03-02: Held: data"' in text
    assert 'version <a href="/nightly/taxi/releases/1456800000">' in text
    assert "2016-03-01 03:00 UTC" in text  # since the rollback
    assert "quarantined" in text


def test_a_held_night_says_why_first(ask, places):
    write_night(places, 0, Outcome.RELEASED)
    name = write_night(places, 1, Outcome.HELD_DATA)
    text = ask(f"/nightly/taxi/nights/{name}").text
    assert text.index("Why it was held") < text.index("The night</h2>") < text.index("All other findings")
    assert "What to do:" in text
    assert "rows-00000-of-00001.parquet:7" in text
    assert "Drift of payment_type: 0.3, threshold 0.05; 2 nights, highest 0.3 on 2016-03-02" in text
    assert "Distribution of fare: most now in 5 to 10" in text
    assert "the last bar is all from 10" in text
    assert "all, there is no such column" in text  # of the feature that is gone
    assert 'href="http://airflow/dags/taxi_retrain/runs/' in text
    assert f'href="/nightly/taxi/snapshots/{"ab" * 16}"' in text


def test_a_released_night_shows_each_slice_beside_production(ask, places):
    text = ask(f"/nightly/taxi/nights/{write_night(places, 0, Outcome.RELEASED)}").text
    assert "all examples" in text
    assert "+0.0100" in text
    assert "-0.0500" in text


def test_what_a_record_says_is_escaped_everywhere(ask, places):
    name = write_night(places, 1, Outcome.HELD_DATA, summary=EVIL, override_reason=EVIL)
    other = write_night(places, 0, Outcome.RELEASED)
    write_release(places, 1456800000)
    write_rollback(places, 1456800000)
    write_snapshot(places)
    paths = ["", "/taxi", f"/taxi/nights/{name}", f"/taxi/nights/{name}/report", f"/taxi/nights/{other}"]
    for path in [*paths, f"/taxi/snapshots/{'ab' * 16}"]:
        text = ask(f"/nightly{path or '/'}").text
        assert EVIL not in text, path
        assert "&lt;script&gt;" in text, path
        assert not re.search(r"<[^>]+ (style|on[a-z]+)=", text), path  # the policy forbids them


def test_an_address_in_a_record_becomes_a_link_only_if_it_is_of_the_web(ask, places):
    name = write_night(places, 0, Outcome.RELEASED)
    request = places.nights / "taxi" / name / "request.json"
    request.write_text(re.sub(r'"run_url": "[^"]*"', '"run_url": "javascript:alert(1)"', request.read_text()))
    assert "javascript:" not in ask(f"/nightly/taxi/nights/{name}").text


def test_nothing_is_loaded_from_elsewhere_and_only_airflow_may_frame_it(ask, places):
    answer = ask("/nightly/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'self'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert set(re.findall(r'(?:src|href)="([^"]+\.(?:css|js))"', answer.text)) == {
        "/nightly/-/page.css",
        "/nightly/-/page.js",
    }
    assert "://" not in ask("/nightly/-/page.css", role="").text


@pytest.mark.parametrize(
    "path",
    [
        "taxi/nights/%2e%2e",
        "taxi/nights/..%2f..%2fsecret",
        "taxi/nights/%2fetc",
        "taxi/nights/.new-x",
        "..%2fsecret",
        "%2e%2e/nights/secret",
        "TAXI",
        "taxi/snapshots/..%2f..%2fsecret",
        "taxi/releases/..%2fsecret",
        "taxi/releases/rollbacks",
        "-/..%2frender.py",
        "-/render.py",
        "dags/taxi_retrain/runs/../../../secret",
        "dags/other/runs/x",
        "nothing",
    ],
)
def test_no_name_leads_out_of_the_records(ask, places, path):
    write_night(places, 0, Outcome.RELEASED)
    (places.var / "secret").mkdir()
    (places.var / "secret/request.json").write_text('{"secret": 1}')
    answer = ask(f"/nightly/{path}")
    assert answer.status_code == 404
    assert "<h1>" in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("name", ["request", "verdict", "data_gate", "evaluation", "distributions", "release"])
@pytest.mark.parametrize("content", ["", '{"model": "taxi', "[]", '{"unknown": 1}', "\xff\x00"])
def test_a_damaged_record_is_said_and_the_rest_is_shown(ask, places, name, content):
    night = write_night(places, 0, Outcome.HELD_DATA)
    (places.nights / "taxi" / night / f"{name}.json").write_bytes(content.encode("latin-1"))
    answer = ask(f"/nightly/taxi/nights/{night}")
    assert answer.status_code == 200
    assert f"{name}.json cannot be read" in answer.text
    assert ask("/nightly/taxi").status_code == 200
    assert ask("/nightly/").status_code == 200


def test_a_night_that_has_only_begun_and_one_that_failed(ask, places):
    night = write_night(places, 0, Outcome.FAILED, failed_task="trainer", error="ValueError: the loss is no number")
    assert "the loss is no number" in ask(f"/nightly/taxi/nights/{night}").text
    folder = places.nights / "taxi" / night
    for path in folder.iterdir():
        if path.name != "request.json":
            path.unlink()
    text = ask(f"/nightly/taxi/nights/{night}").text
    assert "There is no verdict yet" in text
    assert "No gate has judged this night yet" in text


def test_the_list_goes_on_by_pages(ask, places):
    for day in range(55):
        write_night(places, day, Outcome.RELEASED)
    assert "Page 1 of 2" in ask("/nightly/taxi").text
    assert "2016-03-01</a>" in ask("/nightly/taxi?page=2").text
    assert "Page 2 of 2" in ask("/nightly/taxi?page=99").text
    assert ask("/nightly/taxi?page=x").status_code == 422


def test_airflows_run_leads_to_its_night(ask, places):
    name = write_night(places, 0, Outcome.RELEASED)
    answer = ask("/nightly/dags/taxi_retrain/runs/scheduled__2016-03-01T03%3A00%3A00%2B00%3A00")
    assert answer.headers["location"] == f"/nightly/taxi/nights/{name}"


def test_records_of_a_snapshot_and_of_a_release(ask, places):
    name = write_night(places, 0, Outcome.RELEASED)
    write_release(places, 1456800000)
    write_snapshot(places)
    text = ask("/nightly/taxi/releases/1456800000").text
    assert "saved_model.pb" in text
    assert f"/nightly/taxi/nights/{name}" in text
    assert "trips.csv" in ask(f"/nightly/taxi/snapshots/{'ab' * 16}").text
