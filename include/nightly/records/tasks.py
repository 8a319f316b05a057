"""The tasks of a night in the order in which they run, for the config, Airflow, the TFX pipeline and bin/night."""

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
