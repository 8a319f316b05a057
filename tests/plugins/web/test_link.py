"""Each task of a night has a link to it, worked out without the task having run."""

from types import SimpleNamespace

from nightly_airflow.retrain import retrain_dag
from nightly_airflow.web.link import NightLink


def test_every_task_of_a_night_is_given_the_link():
    given = {(operator.__module__, operator.__name__) for operator in NightLink.operators}
    for task in retrain_dag("taxi").tasks:
        assert (type(task).__module__, type(task).__name__) in given, task.task_id


def test_the_link_is_the_nights_page_inside_airflows_ui(monkeypatch):
    key = SimpleNamespace(dag_id="taxi_retrain", run_id="scheduled__2016-03-01T03:00:00+00:00")
    night = "nightly/taxi/nights/scheduled__2016-03-01T03-00-00-00-00"
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://here:8080")
    assert NightLink().get_link(None, ti_key=key) == f"http://here:8080/plugin/nightly/{night}"
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://here/airflow/")
    assert NightLink().get_link(None, ti_key=key) == f"https://here/airflow/plugin/nightly/airflow/{night}"
