"""The tasks of a night follow from the model's config."""

from nightly.models import load_config
from nightly.nights.steps import STEPS, command_tasks_of, nodes_of, tasks_of
from nightly.records.tasks import TASKS

TAXI = load_config("taxi")
REFITTED = TAXI.model_copy(update={"training": TAXI.training.model_copy(update={"refit": True})})


def test_only_a_model_that_asks_for_it_trains_again():
    assert "refit" not in tasks_of(TAXI)
    assert tasks_of(TAXI)["infra_validator"] == ("trainer",)
    assert tasks_of(REFITTED) == TASKS
    assert tasks_of(REFITTED)["infra_validator"] == ("trainer", "refit")


def test_every_task_stands_after_those_that_it_follows():
    for config in (TAXI, REFITTED):
        tasks = tasks_of(config)
        assert all(list(tasks).index(name) < list(tasks).index(task) for task in tasks for name in tasks[task])


def test_bin_night_has_the_nodes_of_the_pipeline():
    assert nodes_of(REFITTED) == list(STEPS[1:])
    assert command_tasks_of(TAXI) == ["plan", "download", "snapshot", *nodes_of(TAXI)]
