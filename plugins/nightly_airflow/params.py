"""The params of a nightly run, which Airflow shows as the trigger form."""

from __future__ import annotations

from airflow.sdk import Param

from nightly.records.config import ModelConfig


def params(config: ModelConfig) -> dict[str, Param]:
    """Return the params of a run; left empty, the model's config decides."""
    window, training, judging = "Data", "Training and release", "Thresholds for this run only"
    return {
        "as_of": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="As of",
            section=window,
            description="The night uses only what was known at this time. Empty: the end of the data interval for "
            "scheduled and backfill runs; for a manual run its logical date, or now, or the end of the data if it has "
            "ended. UTC without an offset.",
        ),
        "look_back_days": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=36_500,
            title="Look-back, days",
            section=window,
            description=f"The length of the window of data. Empty: {config.data.look_back_days}.",
        ),
        "train_steps": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Train steps",
            section=training,
            description=f"Batches of {config.training.batch_size}. Empty: {config.training.steps}.",
        ),
        "fresh": Param(
            False,
            type="boolean",
            title="Compute everything again",
            section=training,
            description="Otherwise earlier work is reused if data, code and config are the same.",
        ),
        "release": Param(
            "auto",
            type="string",
            enum=["auto", "yes", "no"],
            title="Release",
            section=training,
            description="May the run release, if both gates pass? auto: scheduled and manual runs yes, backfills no.",
        ),
        "thresholds": Param(
            {},
            type=["null", "object"],
            title="Thresholds",
            section=judging,
            description='For example {"data_gate.min_rows": 100, "model_gate.metrics.auc.floor": 0.6, '
            '"drift.payment_type": 0.2}. They need a reason.',
        ),
        "reason": Param(
            "",
            type=["null", "string"],
            title="Reason",
            section=judging,
            description="Why the thresholds are replaced. The verdict records it.",
        ),
    }
