"""The DAG of a night: one for each model, with the same tasks for all models.

Each model has a three-line file in dags/. The file's docstring names Airflow because Airflow by default reads only
files that contain `dag` and `airflow`.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from airflow.sdk import DAG, CronDataIntervalTimetable, TriggerRule

from nightly.models import load_config, read_schema_text
from nightly.nights.steps import tasks_of
from nightly_airflow.docs import TASK_DOCS, dag_doc
from nightly_airflow.operators.download import DownloadOperator
from nightly_airflow.operators.ml import GateOperator, MLStepOperator, ReleaseOperator, SnapshotOperator
from nightly_airflow.operators.plan import PlanOperator
from nightly_airflow.operators.review import DataGateOperator, SchemaReviewOperator
from nightly_airflow.operators.verdict import VerdictOperator
from nightly_airflow.params import params
from nightly_airflow.pool import pool_of_steps
from nightly_airflow.retries import RETRIES, StepRetries

HISTORY = dt.datetime(2010, 1, 1, tzinfo=dt.UTC)  # the earliest date of a backfill; there is no automatic catch-up


def retrain_dag(model: str) -> DAG:
    """Return the DAG of include/models/MODEL. Raise ContractError with every problem of its config."""
    config = load_config(model)
    read_schema_text(config)
    pool = pool_of_steps()
    with DAG(
        dag_id=f"{model}_retrain",
        description=config.description,
        doc_md=dag_doc(config),
        schedule=CronDataIntervalTimetable(config.schedule.cron, config.schedule.timezone),
        start_date=HISTORY,
        catchup=False,
        max_active_runs=1,  # does not limit backfills: exclusive tasks have their own limit, below
        params=params(config),
        tags=["nightly", model, *(tag for tag in config.tags if tag not in ("nightly", model))],
        default_args={
            "model": model,
            "owner": config.owner,
            "retries": RETRIES,
            "retry_policy": StepRetries(own=1),
            "retry_delay": dt.timedelta(seconds=30),
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": dt.timedelta(minutes=30),
            "execution_timeout": dt.timedelta(hours=1),
        },
    ) as dag:
        PlanOperator(**task("plan"), execution_timeout=dt.timedelta(minutes=5))
        DownloadOperator(
            **task("download"), retries=3, retry_policy=StepRetries(own=3), execution_timeout=dt.timedelta(hours=3)
        )
        SnapshotOperator(**task("snapshot"), pool=pool)
        MLStepOperator(**task("examples"), pool=pool)
        MLStepOperator(**task("schema"), pool=pool)
        MLStepOperator(**task("statistics"), pool=pool)
        MLStepOperator(**task("example_validator"), pool=pool)
        MLStepOperator(**task("drift_skew"), pool=pool)
        DataGateOperator(**task("data_gate"), pool=pool, retry_policy=StepRetries(own=2))
        SchemaReviewOperator(
            **task("schema_review"),
            hours=config.schema_review.hours,
            retries=20,  # a retry asks again: after an answer without a reason, and after Airflow lost an answer
            retry_delay=dt.timedelta(seconds=1),
            max_retry_delay=dt.timedelta(seconds=10),
        )
        GateOperator(**task("data_gate_again"), pool=pool, retry_policy=StepRetries(own=2))
        MLStepOperator(
            **task("transform"),
            pool=pool,
            execution_timeout=dt.timedelta(hours=3),
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,  # the review is skipped in most nights
        )
        MLStepOperator(**task("trainer"), pool=pool, execution_timeout=dt.timedelta(hours=12))
        MLStepOperator(**task("evaluator"), pool=pool, execution_timeout=dt.timedelta(hours=3))
        GateOperator(**task("model_gate"), pool=pool, retry_policy=StepRetries(own=2))
        if config.training.refit:
            MLStepOperator(**task("refit"), pool=pool, execution_timeout=dt.timedelta(hours=12))
        MLStepOperator(**task("infra_validator"), pool=pool)
        # One release at a time over all runs of the model: nightly, manual and backfill. A pool for each model would
        # do the same, but would have to be created by hand for a new model.
        # Its tries span about four minutes, by which time a model server that restarts or moves is back.
        ReleaseOperator(**task("release"), pool=pool, max_active_tis_per_dag=1, retry_policy=StepRetries(own=3))
        VerdictOperator(**task("verdict"), execution_timeout=dt.timedelta(minutes=5))
        for task_id, upstream in tasks_of(config).items():
            dag.get_task(task_id).set_upstream([dag.get_task(name) for name in upstream])
    return dag


def task(task_id: str) -> dict[str, Any]:
    """Return a task's id and documentation as arguments."""
    return {"task_id": task_id, "doc_md": TASK_DOCS[task_id]}
