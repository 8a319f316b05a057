"""The steps of a night in the order in which they run, for Airflow's tasks, the TFX pipeline and bin/night."""

from nightly.records.config import ModelConfig

# Each task of a night -> the tasks directly before it.
TASKS: dict[str, tuple[str, ...]] = {
    "plan": (),
    "download": ("plan",),
    "snapshot": ("download",),
    "examples": ("snapshot",),
    "schema": ("snapshot",),
    "statistics": ("examples",),
    "example_validator": ("statistics", "schema"),
    "drift_skew": ("statistics", "schema"),
    "data_gate": ("example_validator", "drift_skew"),
    "schema_review": ("data_gate",),
    "data_gate_again": ("schema_review",),
    # Each of the three can end the night, and Airflow skips a task only for those directly upstream.
    "transform": ("data_gate", "schema_review", "data_gate_again"),
    "trainer": ("transform",),
    "evaluator": ("trainer",),
    "model_gate": ("evaluator",),
    "refit": ("model_gate",),
    "infra_validator": ("trainer", "refit"),
    "release": ("model_gate", "infra_validator"),
    "verdict": ("release",),
}
VERDICT = "verdict"
REVIEW = ("schema_review", "data_gate_again")  # skipped in a night that needs no review
OPTIONAL = ("refit",)  # only of models whose config asks for it
_ORDER = list(TASKS)
STEPS = tuple(task for task in _ORDER[_ORDER.index("snapshot") : _ORDER.index(VERDICT)] if task not in REVIEW)
DATA_STEPS = STEPS[: STEPS.index("data_gate") + 1]  # from the snapshot to the data gate's decision


def tasks_of(config: ModelConfig) -> dict[str, tuple[str, ...]]:
    """Return the part of TASKS that the model has."""
    absent = () if config.training.refit else OPTIONAL
    return {
        task: tuple(name for name in before if name not in absent)
        for task, before in TASKS.items()
        if task not in absent
    }


def nodes_of(config: ModelConfig) -> list[str]:
    """Return the tasks that are nodes of the TFX pipeline, which also has one for production's model."""
    return [step for step in STEPS[1:] if step in tasks_of(config)]


def command_tasks_of(config: ModelConfig) -> list[str]:
    """Return the tasks of bin/night, which has no review, and no task for the verdict."""
    return ["plan", "download", "snapshot", *nodes_of(config)]
