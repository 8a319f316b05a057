"""The parts of a night's tasks that a model, the TFX pipeline and bin/night have."""

from nightly.records.config import ModelConfig
from nightly.records.tasks import OPTIONAL, REVIEW, TASKS, VERDICT

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
