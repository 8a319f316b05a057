"""bin/night: every way a night ends leaves the verdict that the page shows, and a fitting exit status."""

import datetime as dt
import os
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from nightly.cli import night as command
from nightly.evaluation.errors import EvaluationError
from nightly.io.errors import DamageError, UserError
from nightly.io.paths import ROOT
from nightly.models import load_config
from nightly.nights.report import report
from nightly.nights.steps import tasks_of
from nightly.nights.verdict import judge
from nightly.records.night import Download, GateResult, Reason, SnapshotRef, StepError, utc_now
from nightly.records.tasks import REVIEW
from nightly.records.verdict import Outcome, Verdict
from nightly.runtime import whole_night
from nightly.snapshots.errors import ColumnError
from nightly.state.errors import StateNotReachedError
from nightly.tfx.components.infra_validator import ModelNotServable
from nightly.tfx.seals import DamagedArtifactError
from nightly.transform.analysis import PreprocessingError, UnknownAnalyzer
from tests.support.records import release_record

TRIPS = "trip_start_timestamp,fare\n1451606400,9.5\n"


@pytest.fixture
def run(paths, tmp_path, monkeypatch, capsys):
    """Run the command with steps that find what the test says; its status, its verdict and what it printed."""
    trips = tmp_path / "trips.csv"
    trips.write_text(TRIPS)

    def run(*words, **steps):
        def step_function(name):
            def work(folder, paths):
                return steps.get(name, well)(name, folder, paths)

            return work

        monkeypatch.setattr(command.worker, "step_function", step_function)
        status = command.main(["taxi", "--as-of", "2016-01-02", "--source", str(trips), *words])
        return status, verdict(paths), capsys.readouterr().out

    return run


def verdict(paths):
    files = list((paths.nights / "taxi").glob("*/verdict.json"))
    return Verdict.load(files[0]) if files else None


def well(name, folder, paths):
    if name == "snapshot":
        ref = SnapshotRef(snapshot_id="ab", path="/nowhere", rows=42, created=True)
        ref.save(folder / "snapshot.json")
        return ref.model_dump()
    if name.endswith("_gate"):
        gate = GateResult(gate=name.removesuffix("_gate"), passed=True, reasons=[], decided_at=utc_now())
        gate.save(folder / f"{name}.json")
        return gate.model_dump(mode="json")
    if name == "release":
        (paths.serving / "taxi/1480000000").mkdir(parents=True)
        record = release_record(run_id=folder.name, metrics={"auc": 0.7})
        record.save(paths.releases / "taxi/1480000000.json")
        record.save(folder / "release.json")
        return record.model_dump(mode="json")
    return {}


def held(name, folder, paths):
    reason = Reason(check="drift", subject="fare", figure=0.3, threshold=0.1, held=True, message="fare drifted by 0.3")
    gate = GateResult(gate="data", passed=False, reasons=[reason], decided_at=utc_now())
    gate.save(folder / f"{name}.json")
    return gate.model_dump(mode="json")


def empty(name, folder, paths):
    ref = SnapshotRef(snapshot_id="", path="", rows=0, created=False)
    ref.save(folder / "snapshot.json")
    return ref.model_dump()


def broken(name, folder, paths):
    raise ValueError(f"{name} met a column it does not know")


def interrupted(name, folder, paths):
    raise KeyboardInterrupt


def test_a_night_that_releases_says_which_version_and_that_no_server_confirmed_it(run):
    status, found, out = run("--release")
    assert (status, found.outcome, found.version, found.production_version) == (4, Outcome.RELEASED, *[1480000000] * 2)
    assert found.as_of == dt.datetime(2016, 1, 2, tzinfo=dt.UTC)
    assert "RELEASED: version 1480000000 of taxi is released" in out


def test_a_night_that_is_not_to_release_is_accepted(run):
    status, found, _ = run()
    assert (status, found.outcome) == (0, Outcome.ACCEPTED)


def test_a_held_night_and_one_without_rows_end_with_3(run, paths):
    status, found, out = run(data_gate=held)
    assert (status, found.outcome) == (3, Outcome.HELD_DATA) and "fare drifted by 0.3" in out


def test_no_rows_are_no_data(run):
    status, found, _ = run(snapshot=empty)
    assert (status, found.outcome) == (3, Outcome.NO_DATA)


@pytest.mark.parametrize("step", ["examples", "data_gate"])
def test_a_night_whose_bucket_is_away_fails_though_its_verdict_cannot_be_written(run, monkeypatch, capsys, step):
    def away(model):
        raise StateNotReachedError("s3://lake does not answer")

    def lose(name, folder, paths):
        monkeypatch.setattr(whole_night, "current", lambda: SimpleNamespace(session=away))
        if name == "examples":
            raise StateNotReachedError("s3://lake does not answer for examples")
        return held(name, folder, paths)

    status, found, out = run(**{step: lose})
    assert (status, found) == (1, None)
    failed = "examples" if step == "examples" else "verdict"
    assert f"FAILED: {failed} failed: StateNotReachedError: s3://lake does not answer" in out


def test_nights_that_start_in_the_same_second_have_a_folder_each(run, paths, monkeypatch):
    now = utc_now()
    monkeypatch.setattr(command, "utc_now", lambda: now)
    for _ in range(3):
        run()
    second = f"command__{now:%Y%m%dT%H%M%S}"
    assert {folder.name for folder in (paths.nights / "taxi").iterdir()} == {second, f"{second}_2", f"{second}_3"}


def test_a_night_whose_step_breaks_has_failed_with_a_traceback(run, paths, monkeypatch):
    shown = []
    monkeypatch.setattr(command.traceback, "format_exception", lambda error: shown.append(error) or [])
    status, found, _ = run(trainer=broken)
    message = "ValueError: trainer met a column it does not know"
    assert (status, found.outcome, found.failed_task, found.error) == (1, Outcome.FAILED, "trainer", message)
    [path] = (paths.nights / "taxi").glob("*/trainer.error.json")
    assert StepError.load(path).message == message, "as from Airflow"
    assert [type(error) for error in shown] == [ValueError]


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (DamagedArtifactError, DamageError),
        (ModelNotServable, UserError),
        (EvaluationError, ValueError),
        (PreprocessingError, ValueError),
        (UnknownAnalyzer, NotImplementedError),
    ],
)
def test_an_error_that_says_what_to_do_has_no_traceback(kind, base, run, paths, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(command, "print", lambda *text, file=None: shown.append((text, file)), raising=False)

    def work(name, folder, paths):
        raise kind.__new__(kind, "clear `examples`")

    status, found, _ = run(trainer=work)
    assert (status, found.outcome, found.error) == (1, Outcome.FAILED, f"{kind.__name__}: clear `examples`")
    assert shown[-1] == (("bin/night: error: trainer failed: clear `examples`",), sys.stderr)
    assert issubclass(kind, base) and kind.retry and not kind.infrastructure, "as errors of other classes are"


def test_a_night_that_is_interrupted_has_failed(run, paths):
    with pytest.raises(KeyboardInterrupt):
        run(trainer=interrupted)
    found = verdict(paths)
    assert (found.outcome, found.failed_task) == (Outcome.FAILED, "trainer")
    assert "it was interrupted (Ctrl-C)" in found.summary


def refused(name, folder, paths):
    raise ColumnError("trips.csv: the header 'Fare' is there twice; nothing tells the two apart.")


def test_what_is_wrong_with_the_source_that_was_asked_for_is_one_line(run, paths, capsys):
    status, found, out = run(snapshot=refused)
    assert (status, found.failed_task, out) == (2, "snapshot", "")


def test_what_is_wrong_with_a_step_is_one_line_and_status_1(run):
    status, found, out = run(trainer=refused)
    assert (status, found.failed_task) == (1, "trainer") and "the header 'Fare' is there twice" in out


@pytest.mark.parametrize(
    ("how", "after"),
    [
        ({"data_gate": held}, "skipped"),
        ({"snapshot": empty}, "skipped"),
        ({"trainer": broken}, "upstream_failed"),
        ({}, "success"),
    ],
)
def test_the_verdict_is_the_one_that_airflow_gives(run, paths, how, after):
    """From the states that Airflow has of the same night, by the function that its verdict task calls."""
    _, found, out = run(*how and ["--release"], **how)
    last = next(iter(how), "release")
    tasks = [task for task in tasks_of(load_config("taxi")) if task != "verdict"]
    states = {task: "success" if tasks.index(task) <= tasks.index(last) else after for task in tasks}
    states |= dict.fromkeys(REVIEW, "skipped")
    states |= {"trainer": "failed"} if last == "trainer" else {}
    states |= {"release": "skipped"} if not how else {}
    expected = judge("taxi", found.run_id, paths, states)
    assert found == expected.model_copy(update={"decided_at": found.decided_at})
    assert report(expected) in out


def test_while_a_canary_is_compared_nothing_is_released(run, paths):
    (paths.serving / "taxi/1470000000").mkdir(parents=True)
    release_record(
        version=1470000000,
        state="canary",
        run_id="the night before",
        canary_since=dt.datetime(2016, 1, 1, 9, tzinfo=dt.UTC),
    ).save(paths.releases / "taxi/1470000000.json")
    status, found, _ = run("--release")
    assert (status, found.outcome) == (0, Outcome.ACCEPTED) and "canary 1470000000 is being compared" in found.summary


def test_until_stops_without_a_verdict(run):
    status, found, out = run("--until", "statistics")
    assert (status, found) == (0, None) and out.startswith("done: ")


@pytest.mark.parametrize(
    "as_of, message",
    [("2999-01-01", "as_of 2999-01-01 is in the future"), ("yesterday", "as_of 'yesterday' is not a date")],
)
def test_an_as_of_that_cannot_be_is_one_line(paths, capsys, as_of, message):
    assert command.main(["taxi", "--as-of", as_of]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not paths.nights.exists(), "and no night has begun"


def test_a_connection_comes_from_the_environment_and_a_malformed_one_is_one_line(paths, tmp_path, monkeypatch, capsys):
    trips = tmp_path / "trips.csv"
    trips.write_text(TRIPS)
    words = ["taxi", "--as-of", "2016-01-02", "--until", "download"]
    monkeypatch.setenv("AIRFLOW_CONN_TAXI_FILES", f"fs://?path={trips}")
    assert command.main(words) == 0
    [path] = (paths.nights / "taxi").glob("*/download.json")
    assert Download.load(path).files[0].path == str(trips)

    monkeypatch.setenv("AIRFLOW_CONN_TAXI_FILES", "{'password': 'open sesame'}")
    capsys.readouterr()
    assert command.main(words) == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("bin/night: error: ")]
    assert len(error) == 1 and "download failed: AIRFLOW_CONN_TAXI_FILES is neither a URI such as" in error[0]
    written = [path.read_text() for path in paths.nights.rglob("*.json")]
    assert "AIRFLOW_CONN_TAXI_FILES" in "".join(written) and "sesame" not in "".join([*written, *error])


def test_a_source_with_a_password_is_refused_before_it_is_recorded(paths, capsys):
    assert command.main(["taxi", "--source", "https://mary:sesame@example.org/trips.csv"]) == 2
    error = capsys.readouterr().err
    assert "--source contains a password" in error and "sesame" not in error and not paths.nights.exists()


@pytest.mark.parametrize("sign, status", [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_a_command_that_is_stopped_leaves_a_failed_verdict(tmp_path, sign, status):
    """The real command, stopped while it waits for a source that never comes."""
    var = tmp_path / "var"
    words = [sys.executable, "-m", "nightly.cli.night", "complaints", "--as-of", "2016-01-02", "--source"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        words.append(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        environment = {**os.environ, "NIGHTLY_VAR": str(var), "no_proxy": "*"}
        with subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE) as run:
            silent.settimeout(120)
            silent.accept()
            run.send_signal(sign)
            run.communicate(timeout=120)
    [path] = var.glob("nights/complaints/*/verdict.json")
    found = Verdict.load(path)
    assert run.returncode == status
    assert (found.outcome, found.failed_task) == (Outcome.FAILED, "download")
