"""Nights that fail early, or are killed, are told with their error: through Airflow, to a real receiver."""

import json

import pytest

from tests.dags.test_night import run_night  # noqa: F401  the fixture
from tests.plugins.notifiers.receivers import web_server


@pytest.fixture
def slack(monkeypatch):
    with web_server() as (url, received):
        connection = {"conn_type": "slackwebhook", "password": f"{url}/services/T0/B0/secret"}
        monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_SLACK", json.dumps(connection))
        yield received


def told(slack) -> str:
    [(_, body)] = slack
    return "\n".join(block["text"]["text"] for block in body["blocks"])


def test_a_night_that_cannot_be_planned_is_told_with_the_reason(run_night, slack):  # noqa: F811
    run_night(thresholds={"data_gate.min_row": 5}, reason="a thin month")
    assert "FAILED: plan failed" in told(slack) and "did you mean 'min_rows'?" in told(slack)
    assert "|The run in Airflow>" in told(slack)


def test_a_night_whose_step_is_killed_is_told_with_what_killed_it(run_night, slack):  # noqa: F811
    run_night({"data_gate": "die"})
    assert "FAILED: data_gate failed" in told(slack) and "SIGKILL" in told(slack)


def test_a_released_night_is_not_told(run_night, slack):  # noqa: F811
    run_night()
    assert not slack
