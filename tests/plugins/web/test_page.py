"""The page asks for Airflow's log-in, shows what is on disk and nothing else, and survives damaged records."""

import datetime as dt
import re

import pytest

from nightly.records.evaluation import Evaluation
from nightly.records.night import Contribution, Download, DownloadedFile, Night, SnapshotRef, StepError
from nightly.records.release import NotReleased
from nightly.records.schema import SchemaChange, SchemaProposal, SchemaReview
from nightly.records.snapshot import Delivery
from nightly.records.verdict import Outcome, Verdict
from tests.support.written_nights import (
    EVIL,
    FIRST,
    write_canary,
    write_night,
    write_release,
    write_rollback,
    write_snapshot,
)

PAGES = ["/nightly/", "/nightly/taxi", "/nightly/taxi/nights/x", "/nightly/taxi/nights/x/report"]
PAGES += ["/nightly/taxi/snapshots/x", "/nightly/taxi/releases/1", "/nightly/dags/taxi_retrain/runs/x"]


@pytest.mark.parametrize("path", PAGES)
def test_nobody_sees_a_page_without_a_log_in(ask, paths, path):
    answer = ask(path, role="")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/api/v2/auth/login?next={path}"
    assert ask(path, role="", accept="application/json").status_code == 401


@pytest.mark.parametrize("path", PAGES[1:])
def test_who_may_not_read_the_dags_runs_sees_nothing_of_the_model(ask, paths, path):
    write_night(paths, 0, Outcome.RELEASED)
    answer = ask(path, role=None)
    assert answer.status_code == 403
    assert "You may not" in answer.text


def test_the_overview_leaves_out_what_one_may_not_read(ask, paths):
    write_night(paths, 0, Outcome.RELEASED)
    assert "taxi" not in ask("/nightly/", role=None).text
    assert "taxi" in ask("/nightly/").text


def test_a_forged_log_in_is_refused(airflow, paths):
    from fastapi.testclient import TestClient

    client = TestClient(airflow, cookies={"_token": "a.b.c"}, follow_redirects=False)
    assert client.get("/nightly/").status_code == 403


def test_before_the_first_night_the_pages_say_so(ask, paths):
    assert "no night has ended yet" in ask("/nightly/").text
    answer = ask("/nightly/taxi")
    assert answer.status_code == 200
    assert "No night has begun yet" in answer.text
    assert "No version has been released yet" in answer.text


def test_a_model_shows_its_nights_releases_and_rollbacks(ask, paths):
    name = write_night(paths, 0, Outcome.RELEASED)
    write_night(paths, 1, Outcome.HELD_DATA)
    write_release(paths, 1456800000)
    write_release(paths, 1456800001, state="quarantined")
    write_rollback(paths, 1456800000)
    text = ask("/nightly/taxi").text
    assert f'href="/nightly/taxi/nights/{name}"' in text
    assert "March 2016" in text
    assert 'aria-label="2016-03-02: Held: data"' in text
    assert 'version <a href="/nightly/taxi/releases/1456800000">' in text
    assert "2016-03-01 03:00 UTC" in text  # since the rollback
    assert "quarantined" in text and "not confirmed" not in text
    write_rollback(paths, 1456800000, confirmed=False)
    assert "2016-03-01 03:00 UTC<br>not confirmed" in ask("/nightly/taxi").text


def test_a_held_night_says_why_first(ask, paths):
    write_night(paths, 0, Outcome.RELEASED)
    name = write_night(paths, 1, Outcome.HELD_DATA)
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


def test_a_night_says_what_was_known_only_later(ask, paths):
    name = write_night(paths, 0, Outcome.RELEASED)
    path = paths.nights / "taxi" / name / "snapshot.json"
    assert "As known then" not in ask(f"/nightly/taxi/nights/{name}").text
    delivery = Delivery(rows=5100, not_known_yet=70, superseded=90, duplicate_rows=10)
    SnapshotRef.load(path).model_copy(update={"delivery": delivery}).save(path)
    text = ask(f"/nightly/taxi/nights/{name}").text
    assert "10 duplicates" in text
    assert "70 rows known only after the as-of time and 90 earlier versions of rows were left out" in text


def test_a_released_night_shows_each_slice_beside_production(ask, paths):
    text = ask(f"/nightly/taxi/nights/{write_night(paths, 0, Outcome.RELEASED)}").text
    assert "all examples" in text
    assert "+0.0100" in text
    assert "-0.0500" in text


def test_a_night_that_was_judged_without_production_says_what_is_damaged_and_what_was_done(ask, paths):
    name = write_night(paths, 0, Outcome.RELEASED)
    folder = paths.nights / "taxi" / name
    damage = f"taxi 1456700000 is damaged ({EVIL} differs): the model is judged by floors and ceilings alone"
    night = Night.load(folder / "request.json")
    night.model_copy(update={"damaged_version": 1456700000, "damage": damage}).save(folder / "request.json")
    evaluation = Evaluation.load(folder / "evaluation.json")
    evaluation.model_copy(update={"production": None, "production_version": None}).save(folder / "evaluation.json")
    text = ask(f"/nightly/taxi/nights/{name}").text
    assert "the model is judged by floors and ceilings alone." in text and EVIL not in text
    assert "Version 1456700000 in production is damaged, and was not compared with." in text


def test_a_night_says_what_it_was_judged_by_and_what_changed_since_the_one_before(ask, paths):
    first, second, third = (write_night(paths, day, Outcome.RELEASED) for day in (0, 1, 2))
    assert "no night before it is known to compare with" in ask(f"/nightly/taxi/nights/{first}").text
    text = ask(f"/nightly/taxi/nights/{second}").text
    assert "changed since the night of 2016-03-01: drift.payment_type 0.04 → 0.05" in text
    assert "<code>data_gate.min_rows</code> = 600" in text
    assert "the same as in the night of 2016-03-02" in ask(f"/nightly/taxi/nights/{third}").text


def test_a_night_says_what_it_fetched_what_it_reused_and_what_was_revised(ask, paths):
    name = write_night(paths, 1, Outcome.RELEASED)
    body = DownloadedFile(path="/bodies/a.csv", bytes=3_000_000, sha256="ab" * 32, origin="a.csv")
    window = {"window_start": FIRST, "window_end": FIRST, "fetched_at": FIRST}
    local = Download(kind="files", files=[body], **window)
    fetched = {"parts": 365, "reused": 362, "fetched_bytes": 1_200_000}
    revised = {"revised": ["2016-01-02", EVIL], "revised_since": dt.datetime(2016, 2, 1, tzinfo=dt.UTC)}
    for download, words in (
        (local, "<dd>1 file, 3.0 MB</dd>"),
        (local.model_copy(update=fetched), "365 parts: 362 of earlier nights, 3 fetched, 1.2 MB"),
        (local.model_copy(update=fetched | revised), "2 changed at the source since 2016-02-01"),
        (local.model_copy(update={**fetched, "removed": revised["revised"]}), "2 gone from the source"),
    ):
        download.save(paths.nights / "taxi" / name / "download.json")
        page = ask(f"/nightly/taxi/nights/{name}").text
        assert words in page and EVIL not in page
    assert "<code>2016-01-02</code>, <code>&lt;script&gt;" in page


def test_a_proposed_change_of_the_schema_stands_on_the_night_with_the_answer(ask, paths):
    name = write_night(paths, 0, Outcome.HELD_DATA)
    folder = paths.nights / "taxi" / name
    values = [Contribution(value=EVIL, rows=1234, share=0.1)]
    change = SchemaChange(
        feature="payment_type", kind="new values", old="7 values", new=EVIL, risk="none", values=values
    )
    SchemaProposal(
        model="taxi",
        run_id="r",
        as_of=FIRST,
        base_version=0,
        base_sha256="ab",
        changes=[change],
        diff=f'+  value: "{EVIL}"',
        text="",
        left=[],
        proposed_at=FIRST,
    ).save(folder / SchemaProposal.FILE)
    SchemaReview(decision="rejected", by="ann", reason=EVIL, answered_at=FIRST).save(folder / SchemaReview.FILE)
    page = ask(f"/nightly/taxi/nights/{name}").text
    assert "A change was proposed that would let the night go on." in page
    assert '<span class="added">+  value: &#34;&lt;script&gt;' in page
    assert '<td class="n">1,234</td>' in page, "the values that were found, with their rows"
    assert "ann rejected the proposed schema change: &lt;script&gt;" in page
    assert EVIL not in page


def test_requests_stand_beside_training_rows(ask, paths):
    text = ask(f"/nightly/taxi/nights/{write_night(paths, 0, Outcome.HELD_DATA)}").text
    begin = text.index("Requests beside training")
    assert "4,000 requests to production; control: the training rows of the same days, 4,100 rows" in text[begin:]
    assert 'href="#serving-fare"' in text[:begin] and 'id="serving-fare"' in text[begin:]
    assert text.index('id="serving-fare"') < text.index('id="serving-payment_type"'), "what is held comes first"
    assert "<h3>fare in the requests is far" in text[:begin]
    assert 'href="#cause-2"' in text[begin:], "the feature leads to why it held"


def test_what_a_record_says_is_escaped_everywhere(ask, paths):
    name = write_night(paths, 1, Outcome.HELD_DATA, summary=EVIL, override_reason=EVIL)
    other = write_night(paths, 0, Outcome.RELEASED)
    write_release(paths, 1456800000)
    write_rollback(paths, 1456800000)
    write_snapshot(paths)
    pages = ["", "/taxi", f"/taxi/nights/{name}", f"/taxi/nights/{name}/report", f"/taxi/nights/{other}"]
    for path in [*pages, f"/taxi/snapshots/{'ab' * 16}"]:
        text = ask(f"/nightly{path or '/'}").text
        assert EVIL not in text, path
        assert "&lt;script&gt;" in text, path
        assert not re.search(r"<[^>]+ (style|on[a-z]+)=", text), path  # the policy forbids them


def test_an_address_in_a_record_becomes_a_link_only_if_it_is_of_the_web(ask, paths):
    name = write_night(paths, 0, Outcome.RELEASED)
    request = paths.nights / "taxi" / name / "request.json"
    request.write_text(re.sub(r'"run_url": "[^"]*"', '"run_url": "javascript:alert(1)"', request.read_text()))
    assert "javascript:" not in ask(f"/nightly/taxi/nights/{name}").text


def test_nothing_is_loaded_from_elsewhere_and_only_airflow_may_frame_it(ask, paths):
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
def test_no_name_leads_out_of_the_records(ask, paths, path):
    write_night(paths, 0, Outcome.RELEASED)
    (paths.var / "secret").mkdir()
    (paths.var / "secret/request.json").write_text('{"secret": 1}')
    answer = ask(f"/nightly/{path}")
    assert answer.status_code == 404
    assert "<h1>" in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "name", ["request", "verdict", "data_gate", "evaluation", "distributions", "release", "thresholds"]
)
@pytest.mark.parametrize("content", ["", '{"model": "taxi', "[]", '{"unknown": 1}', "\xff\x00"])
def test_a_damaged_record_is_said_and_the_rest_is_shown(ask, paths, name, content):
    night = write_night(paths, 0, Outcome.HELD_DATA)
    (paths.nights / "taxi" / night / f"{name}.json").write_bytes(content.encode("latin-1"))
    answer = ask(f"/nightly/taxi/nights/{night}")
    assert answer.status_code == 200
    assert f"{name}.json cannot be read" in answer.text
    assert ask("/nightly/taxi").status_code == 200
    assert ask("/nightly/").status_code == 200


def test_a_night_that_has_only_begun_and_one_that_failed(ask, paths):
    night = write_night(paths, 0, Outcome.FAILED, failed_task="trainer", error="ValueError: the loss is no number")
    assert "the loss is no number" in ask(f"/nightly/taxi/nights/{night}").text
    folder = paths.nights / "taxi" / night
    for path in folder.iterdir():
        if path.name != "request.json":
            path.unlink()
    text = ask(f"/nightly/taxi/nights/{night}").text
    assert "There is no verdict yet" in text
    assert "No gate has judged this night yet" in text


def test_the_list_goes_on_by_pages(ask, paths):
    for day in range(55):
        write_night(paths, day, Outcome.RELEASED)
    assert "Page 1 of 2" in ask("/nightly/taxi").text
    assert "2016-03-01</a>" in ask("/nightly/taxi?page=2").text
    assert "Page 2 of 2" in ask("/nightly/taxi?page=99").text
    assert ask("/nightly/taxi?page=x").status_code == 422


def test_airflows_run_leads_to_its_night(ask, paths):
    name = write_night(paths, 0, Outcome.RELEASED)
    answer = ask("/nightly/dags/taxi_retrain/runs/scheduled__2016-03-01T03%3A00%3A00%2B00%3A00")
    assert answer.headers["location"] == f"/nightly/taxi/nights/{name}"


def test_records_of_a_snapshot_and_of_a_release(ask, paths):
    name = write_night(paths, 0, Outcome.RELEASED)
    write_release(paths, 1456800000)
    write_snapshot(paths)
    text = ask("/nightly/taxi/releases/1456800000").text
    assert "saved_model.pb" in text
    assert f"/nightly/taxi/nights/{name}" in text
    assert "trips.csv" in ask(f"/nightly/taxi/snapshots/{'ab' * 16}").text


def test_a_canary_stands_beside_production_with_its_looks_and_how_to_end_it(ask, paths):
    write_release(paths, 1456800000)
    write_canary(paths, 1456800100)
    text = ask("/nightly/taxi").text
    assert 'version <a href="/nightly/taxi/releases/1456800000">' in text, "production stays what it is"
    assert "10.0 % of the callers, since 2016-03-01 02:41 UTC. It is not clear yet, on day 4." in text
    assert "1,320 of 1,370 predictions of the canary had a label" in text
    assert "production&#39;s: +0.0010, from -0.0065 to +0.0085; 0.01 would matter; 4 looks" in text
    assert "bin/releases canary taxi promote" in text
    assert "Earlier canaries" not in text
    assert "clients are old" not in text, "a warning is of the last look only"
    assert "#canary" in ask("/nightly/").text


def test_the_plot_of_a_canary_survives_whatever_its_figures_are(ask, paths):
    record = write_canary(paths, 1456800100, looks=2)  # one look with a difference
    path = paths.releases / "taxi" / "canaries" / f"{record.version}.json"
    for figure in ("0", "1e308", "-1e308", "NaN", "Infinity", "-Infinity"):
        write_canary(paths, 1456800100, looks=2)
        changed = re.sub(r'"(difference|low|high|margin)": [-.\deE]+', rf'"\1": {figure}', path.read_text())
        path.write_text(changed)
        assert ask("/nightly/taxi").status_code == 200, figure


def test_how_canaries_ended_stands_with_the_releases(ask, paths):
    end = {"decided_at": FIRST, "done_at": FIRST}
    write_canary(paths, 1456800000, "released", decision="promote", reason=f"wanted {EVIL}", decided_by="ann", **end)
    write_canary(
        paths, 1456800100, "quarantined", decision="stop", reason="surely worse", decided_by="the comparison", **end
    )
    write_canary(paths, 1456800200, "quarantined")  # by a rollback
    text = ask("/nightly/taxi").text
    assert "<strong>in production</strong>, promoted as canary" in text
    assert "quarantined, stopped as canary" in text
    assert "(decided by ann)" in text and "(decided by the comparison)" not in text
    assert "The comparison did not decide; it is quarantined" in text
    assert "3 ended" in text and 'id="canary"' not in text
    assert EVIL not in text
    write_canary(paths, 1456800100, decision="stop", reason="surely worse", decided_by="ann", decided_at=FIRST)
    assert "not carried out completely yet" in ask("/nightly/taxi").text


@pytest.mark.parametrize("content", [None, "", "[]", '{"unknown": 1}', "\xff\x00"])
@pytest.mark.parametrize("record", ["1456800100.json", "canaries/1456800100.json"])
def test_a_canary_whose_records_are_missing_or_damaged_is_said(ask, paths, record, content):
    night = write_night(paths, 0, Outcome.RELEASED)
    write_canary(paths, 1456800100).save(paths.nights / "taxi" / night / "release.json")
    path = paths.releases / "taxi" / record
    path.unlink() if content is None else path.write_bytes(content.encode("latin-1"))
    for page in ("/nightly/", "/nightly/taxi", f"/nightly/taxi/nights/{night}", f"/nightly/taxi/nights/{night}/report"):
        answer = ask(page)
        assert answer.status_code == 200
        if page != "/nightly/":
            assert ("1456800100.json cannot be read" in answer.text) is (content is not None)
    text = ask("/nightly/taxi").text
    assert ("no comparison is recorded yet" in text.lower()) is record.startswith("canaries")
    assert ("its release is unknown" in text) is not record.startswith("canaries")


def test_a_night_shows_what_became_of_its_canary_and_why_another_was_not_released(ask, paths):
    first, second = write_night(paths, 0, Outcome.RELEASED), write_night(paths, 1, Outcome.ACCEPTED)
    write_canary(paths, 1456800100).save(paths.nights / "taxi" / first / "release.json")
    for page in (f"/nightly/taxi/nights/{first}", f"/nightly/taxi/nights/{first}/report"):
        text = ask(page).text
        assert "Released as canary" in text and "It is not clear yet, on day 4" in text and "4 looks" in text
    reason = f"canary 1456800100 is being compared with production {EVIL}"
    path = paths.nights / "taxi" / second / NotReleased.FILE
    NotReleased(reason=reason, decided_at=FIRST).save(path)
    text = ask(f"/nightly/taxi/nights/{second}").text
    assert "<dt>Not released</dt><dd>canary 1456800100 is being compared with production &lt;script" in text
    assert EVIL not in text
    path.write_text("{")
    assert "not_released.json cannot be read" in ask(f"/nightly/taxi/nights/{second}").text


def test_a_feature_whose_rows_were_rejected_leads_to_the_delivery(ask, paths):
    name = write_night(paths, 0, Outcome.HELD_DATA)
    path = paths.nights / "taxi" / name / "verdict.json"
    verdict = Verdict.load(path)
    rejected = {"check": "max_rejected_share", "subject": "gone", "figure": 0.3, "held": True, "message": "unread"}
    reasons = [*verdict.reasons, verdict.reasons[0].model_copy(update=rejected)]
    verdict.model_copy(update={"reasons": reasons}).save(path)
    text = ask(f"/nightly/taxi/nights/{name}").text
    card = text[text.index('id="feature-gone"') :]
    assert 'href="#cause-1"' in card[: card.index("</article>")], "the delivery comes first"


def test_what_was_found_of_one_feature_stands_together(ask, paths):
    name = write_night(paths, 0, Outcome.HELD_DATA)
    folder = paths.nights / "taxi" / name
    verdict = Verdict.load(folder / "verdict.json")
    again = verdict.reasons[1].model_copy(update={"check": "max_unseen_share", "message": "unseen"})
    verdict.model_copy(update={"reasons": [*verdict.reasons, again]}).save(folder / "verdict.json")
    held = ask(f"/nightly/taxi/nights/{name}").text
    held = held[held.index("Why it was held") : held.index("The night</h2>")]
    heads = re.findall("<h3>(.*?)</h3>", held)
    assert [head[:12] for head in heads] == ["payment_type", "fare in the "]
    assert held.count("Compare the two distributions.") == 1, "the same advice is given once"


def test_a_night_that_failed_in_plan_says_when_for_what_and_what_to_do(ask, paths, monkeypatch):
    write_release(paths, 1456800000)
    folder = paths.nights / "taxi" / "manual__2016-03-02T03-00-00-00-00"
    StepError(task="plan", message="there is no such key", try_number=1, failed_at=FIRST).save(
        folder / "plan.error.json"
    )
    Verdict(
        model="taxi",
        run_id="manual__2016-03-02T03:00:00+00:00",
        outcome=Outcome.FAILED,
        summary="plan failed: there is no such key",
        reasons=[],
        failed_task="plan",
        error="there is no such key",
        production_version=1456800000,
        as_of=FIRST,
        run_url="http://airflow/dags/taxi_retrain/runs/x",
        decided_at=FIRST,
    ).save(folder / "verdict.json")
    monkeypatch.setattr("nightly_airflow.web.log.excerpt", lambda *key: f"ERROR {key} {EVIL}")
    text = ask(f"/nightly/taxi/nights/{folder.name}").text
    assert "<h1>Night of 2016-03-01</h1>" in text
    assert "In production: version 1456800000." in text
    assert "there is no such key" in text and "Trigger again with valid values" in text
    assert "Or the disk is full. Or files in production are damaged and could not be repaired." in text
    assert "bin/airflow dags trigger taxi_retrain" in text and "2016-03-01T03:00:00+00:00" in text
    assert 'href="http://airflow/dags/taxi_retrain/runs/x/tasks/plan"' in text
    assert 'href="http://airflow/dags/taxi_retrain/runs/x"' in text
    assert "manual__2016-03-02T03:00:00+00:00" in text and "ERROR (&#39;taxi_retrain&#39;" in text and EVIL not in text
    assert 'aria-label="2016-03-01: Failed"' in ask("/nightly/taxi").text, "it is in the calendar"


def test_a_night_that_an_older_version_left_without_a_date_is_in_the_calendar_by_its_run(ask, paths):
    folder = paths.nights / "taxi" / "scheduled__2016-03-05T03-00-00-00-00"
    StepError(task="plan", message="no", try_number=1, failed_at=FIRST).save(folder / "plan.error.json")
    assert 'aria-label="2016-03-05: No verdict"' in ask("/nightly/taxi").text
    no_date = paths.nights / "taxi" / "fix__2026-02-31T10-00"
    StepError(task="plan", message="no", try_number=1, failed_at=FIRST).save(no_date / "plan.error.json")
    for page in ("/nightly/", "/nightly/taxi", f"/nightly/taxi/nights/{no_date.name}"):
        assert ask(page).status_code == 200
    Verdict(
        model="taxi",
        run_id="mine",
        outcome=Outcome.FAILED,
        summary="no",
        reasons=[],
        failed_task="plan",
        decided_at=FIRST,
    ).save(paths.nights / "taxi/mine/verdict.json")
    assert 'aria-label="2016-03-01: Failed"' in ask("/nightly/taxi").text
    assert "In production: not recorded." in ask("/nightly/taxi/nights/mine").text


def test_the_overview_begins_with_what_failed_and_was_held(ask, paths):
    for model, outcome in (("a", Outcome.RELEASED), ("b", Outcome.HELD_DATA), ("c", Outcome.FAILED)):
        write_night(paths, 0, outcome, model=model)
    assert re.findall('href="/nightly/([a-c])"', ask("/nightly/").text) == ["c", "b", "a"]


def test_what_the_model_was_judged_by_is_said_in_words_and_slices_that_passed_are_folded(ask, paths):
    name = write_night(paths, 0, Outcome.RELEASED)
    folder = paths.nights / "taxi" / name
    verdict = Verdict.load(folder / "verdict.json")
    judged = [
        verdict.reasons[0].model_copy(update=update)
        for update in (
            {"check": "auc", "subject": "all examples", "figure": 0.71, "threshold": 0.6},
            {"check": "auc against production", "subject": "all examples", "figure": 0.01, "threshold": -0.08},
            {"check": "loss", "subject": "all examples", "figure": 0.9, "threshold": 0.625, "held": True},
        )
    ]
    verdict.model_copy(update={"reasons": judged}).save(folder / "verdict.json")
    text = ask(f"/nightly/taxi/nights/{name}").text
    assert "≥ 0.60 ✓, drop ≤ 0.08 ✓" in text
    assert "<summary>1 figures of slices, none held</summary>" in text


def test_the_icon_of_the_page_is_served_to_all(ask, airflow):
    from nightly_plugin import NightlyPlugin

    for view in NightlyPlugin.external_views:
        answer = ask(f"/{view['icon']}", role="")
        assert answer.status_code == 200 and answer.headers["content-type"] == "image/svg+xml"


def test_the_headline_of_a_held_night_is_said_once(ask, paths):
    name = write_night(paths, 1, Outcome.HELD_DATA, summary="payment_type: Cash rose; version 1 stays in production")
    folder = paths.nights / "taxi" / name
    verdict = Verdict.load(folder / "verdict.json")
    rose = verdict.reasons[1].model_copy(
        update={"values": [Contribution(value="Cash", rows=9, share=0.4, control=0.1)]}
    )
    words = "payment_type: Cash rose from 10 % to 40 %"
    told = verdict.model_copy(
        update={"reasons": [rose, verdict.reasons[0]], "summary": f"{words}; nothing is there yet"}
    )
    told.save(folder / "verdict.json")
    assert ask(f"/nightly/taxi/nights/{name}").text.count(words) == 1
