"""What the verdict says of tasks that left no message."""

from types import SimpleNamespace

from nightly_airflow.operators.verdict import durations, ran_for


def test_a_failed_task_is_told_with_the_time_that_it_ran_if_it_began():
    known = [{"task_id": task, "duration": seconds} for task, seconds in [("plan", 2.1), ("trainer", 723.4)]]
    known.append({"task_id": "schema", "duration": None})
    ti = SimpleNamespace(dag_id="taxi_retrain", run_id="tonight", get_task_breadcrumbs=lambda *_: known)
    assert durations(ti, ["trainer", "schema", "release"]) == {"trainer": "for 0:12:03"}
    ti.get_task_breadcrumbs = lambda *_: 1 / 0  # a verdict without durations is better than none
    assert durations(ti, ["trainer"]) == {}
    assert ran_for(723.4, "host-a") == "for 0:12:03 on host-a"
