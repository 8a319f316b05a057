"""The DAG that compares the canaries: one for all models that have [release.canary] in their config."""

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
became known since, and promotes it, stops it, or waits.

- **Promoted**: it is surely not worse by as much as matters; the label `stable` moves to it.
- **Stopped**: it is surely worse; it is quarantined, its callers are back on the version in production.
- **Waiting**: neither is sure yet. One may look every day: the test allows for it. After `max_days` it ends anyway.
- **To decide before that**: trigger it with the model, the decision and a reason.
- **While a canary is compared** the nights train and judge, and release nothing.

The figures stand in the run's note, in *Rendered Templates* of `decide`, and by `bin/releases canary MODEL`.
"""
TASK_DOCS = {
    "compare": """\
Joins later labels to logged predictions, and compares the two versions. It changes nothing.

**If it fails**: a log or a file of labels cannot be read; the error names it.""",
    "decide": """\
Carries out what the comparison says, or a person: promote, stop, or wait.

**If it fails**: the model server was not reached, most often; clear it to complete what it began.""",
    "nothing_to_compare": "No model has [release.canary] in its config.toml.",
}


def canary_dag(cron: str, timezone: str = "UTC") -> DAG:
    """Runs at `cron`, which should be after the nights. Without a model that has canaries it is there, and idle."""
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
    """Whether its config says so. A broken config takes this DAG from no other model: the model's own DAG shows it."""
    try:
        return load_config(model).release.canary is not None
    except ContractError as error:
        log.error("no canary of %s is compared: %s", model, error)
        return False


def params(models: list[str]) -> dict[str, Param]:
    """What a person can decide, as the form shows it; left empty, the comparison decides."""
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
            description="auto: as the comparison says. promote and stop are done now, whatever it says.",
        ),
        "reason": Param(
            None,
            type=["null", "string"],
            title="Reason",
            section="Why",
            description="Stands in the records. Needed to promote or stop.",
        ),
    }
