"""The DAG that compares canaries with production: one DAG for all models with [release.canary] in their config."""

from __future__ import annotations

import datetime as dt
import logging

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, Param, TaskGroup

from nightly.models import load_config, model_names
from nightly.records.base import ContractError
from nightly_airflow.operators.canary import CompareOperator, DecideOperator
from nightly_airflow.retries import RETRIES, StepRetries

log = logging.getLogger(__name__)

DOC = """\
Compares each model's canary with its version in production, by the predictions that clients logged and the labels that
became known since. It then promotes the canary, stops it, or waits.

- **Promoted**: the canary is not worse by more than the margin. The label `stable` moves to it.
- **Stopped**: the canary is worse. It is quarantined, and its callers are back on the version in production.
- **Waiting**: neither is certain yet. The comparison is repeated every day, and ends after `max_days`.
- **To decide earlier**: trigger this DAG with the model, the decision and a reason.
- **While a canary is compared** the nights train and check, and release nothing.

The run's note, *Rendered Templates* of `decide`, and `bin/releases canary MODEL` show the values.
"""
TASK_DOCS = {
    "compare": """\
Joins later labels to logged predictions, and compares the two versions. It changes nothing.

**If it fails**: a log or a label file cannot be read; the error names it.""",
    "decide": """\
Carries out the decision of the comparison or of a person: promote, stop, or wait.

**If it fails**: most often the model server was not reached. Clear the task to complete the decision.""",
    "nothing_to_compare": "No model has [release.canary] in its config.toml.",
}


def canary_dag(cron: str, timezone: str = "UTC") -> DAG:
    """Return the DAG, scheduled at `cron`, which should be after the nights; unscheduled if no model has canaries."""
    models = [name for name in model_names() if _has_canaries(name)]
    with DAG(
        dag_id="canary",
        description="Compares canaries with the versions in production: promote, stop, or wait",
        doc_md=DOC,
        schedule=CronDataIntervalTimetable(cron, timezone) if models else None,
        start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        catchup=False,
        max_active_runs=1,
        params=params(models),
        tags=["nightly", "release"],
        default_args={
            "retries": RETRIES,
            "retry_policy": StepRetries(own=2),
            "retry_delay": dt.timedelta(seconds=30),
            "retry_exponential_backoff": 2.0,
        },
    ) as dag:
        for model in models:
            with TaskGroup(model):
                compare = CompareOperator(
                    task_id="compare",
                    model=model,
                    chosen="{{ params.model or '' }}",
                    decision="{{ params.decision }}",
                    reason="{{ params.reason or '' }}",
                    doc_md=TASK_DOCS["compare"],
                    execution_timeout=dt.timedelta(hours=1),
                )
                decide = DecideOperator(
                    task_id="decide",
                    model=model,
                    doc_md=TASK_DOCS["decide"],
                    execution_timeout=dt.timedelta(minutes=30),
                )
                compare >> decide
        if not models:
            EmptyOperator(task_id="nothing_to_compare", doc_md=TASK_DOCS["nothing_to_compare"])
    return dag


def _has_canaries(model: str) -> bool:
    """Return whether the model's config has canaries; False for a broken config, which the model's own DAG shows."""
    try:
        return load_config(model).release.canary is not None
    except ContractError as error:
        log.error("no canary of %s is compared: %s", model, error)
        return False


def params(models: list[str]) -> dict[str, Param]:
    """Return the parameters of the trigger form; left empty, the comparison decides."""
    return {
        "model": Param(
            None,
            type=["null", "string"],
            enum=[None, *models],
            title="Model",
            section="What",
            description="Empty: every model that has canaries.",
        ),
        "decision": Param(
            "auto",
            type="string",
            enum=["auto", "promote", "stop"],
            title="Decision",
            section="What",
            description="auto: the comparison decides. promote, stop: now, whatever the comparison says.",
        ),
        "reason": Param(
            None,
            type=["null", "string"],
            title="Reason",
            section="Why",
            description="Recorded with the decision. Required to promote or stop.",
        ),
    }
