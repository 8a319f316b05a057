"""The steps of a night in the order in which they run, for Airflow's tasks, the TFX pipeline and bin/night."""

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
    "infra_validator": ("trainer",),
    "release": ("model_gate", "infra_validator"),
    "verdict": ("release",),
}
VERDICT = "verdict"
REVIEW = ("schema_review", "data_gate_again")  # skipped in a night that needs no review
_ORDER = list(TASKS)
STEPS = tuple(task for task in _ORDER[_ORDER.index("snapshot") : _ORDER.index(VERDICT)] if task not in REVIEW)
NODES = STEPS[1:]  # of the TFX pipeline, which also has a node for production's model that is not a step
DATA_STEPS = STEPS[: STEPS.index("data_gate") + 1]  # from the snapshot to the data gate's decision
COMMAND_TASKS = ("plan", "download", *STEPS)  # of bin/night, which has no review, and no task for the verdict
