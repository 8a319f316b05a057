"""Where a step runs: one choice for all steps, or for one, and a pod with what either sets."""

import pytest
from pydantic import ValidationError

from nightly.records.config import ModelConfig
from nightly.records.run_config import RUNNABLE, Run, section_of


def config(**sections: object) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "name": "taxi",
            "description": "",
            "source": {"kind": "files", "path": "nowhere"},
            "data": {"id_columns": [], "time_column": "t", "label": {"column": "y", "positive": ["1"]}},
            **sections,
        }
    )


def test_every_step_runs_on_the_host_by_default():
    run = config().run
    assert run.on_hosts and not any(run.pod(step) for step in RUNNABLE)


def test_every_task_with_work_in_the_ml_environment_can_be_chosen():
    assert {"plan", "trainer", "refit", "release", "canary", "rollback"} <= set(RUNNABLE)
    assert {"schema_review", "verdict"}.isdisjoint(RUNNABLE)


def test_one_step_in_a_pod_has_its_own_keys_over_those_of_all_pods():
    run = Run.model_validate(
        {
            "kubernetes": {"image": "nightly:1", "memory": "2Gi", "namespace": "ml"},
            "steps": {"trainer": {"where": "kubernetes", "memory": "32Gi", "gpus": 2}},
        }
    )
    pod = run.pod("trainer")
    assert (pod.image, pod.namespace, pod.memory, pod.gpus) == ("nightly:1", "ml", "32Gi", 2)
    assert run.pod("transform") is None and run.on_hosts


def test_all_steps_in_pods_but_one():
    run = Run.model_validate(
        {"where": "kubernetes", "kubernetes": {"image": "nightly:1"}, "steps": {"download": {"where": "host"}}}
    )
    assert [step for step in RUNNABLE if run.pod(step) is None] == ["download"]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"where": "kubernetes"}, "plan runs in Kubernetes, in a pod without an image: set run.kubernetes.image"),
        ({"steps": {"trainr": {}}}, "there is no step 'trainr'; did you mean 'trainer'"),
        ({"kubernetes": {"memory": "8 GB"}}, "String should match pattern"),
        ({"kubernetes": {"secrets": ["a", "a"]}}, "'a' is listed more than once"),
        ({"kubernetes": {"env": {"NIGHTLY_METADATA_DB": "postgresql://…"}}}, "put it into a Kubernetes secret"),
    ],
)
def test_what_cannot_be_run_is_refused(run, message):
    with pytest.raises(ValidationError, match=message):
        Run.model_validate(run)


def test_a_training_on_more_gpus_than_its_pod_has_is_refused():
    run = {"kubernetes": {"image": "nightly:1"}, "steps": {"trainer": {"where": "kubernetes", "gpus": 2}}}
    assert config(run=run, training={"gpus": 2}).training.gpus == 2
    with pytest.raises(ValidationError, match=r"training\.gpus is 4, and the pod of trainer has 2"):
        config(run=run, training={"gpus": 4})


def test_the_section_of_a_step_that_a_user_wrote_is_that_of_all_pods():
    assert section_of("trainer") == "run.steps.trainer"
    assert section_of("my_company.steps:upload") == "run.kubernetes"
