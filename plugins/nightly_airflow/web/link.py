"""The link from a task in Airflow's UI to the page of its night."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

from nightly_airflow.operators.download import DownloadOperator
from nightly_airflow.operators.ml import GateOperator, MLStepOperator, ReleaseOperator, SnapshotOperator
from nightly_airflow.operators.plan import PlanOperator
from nightly_airflow.operators.review import DataGateOperator, SchemaReviewOperator
from nightly_airflow.operators.verdict import VerdictOperator
from nightly_airflow.web.address import DAG_SUFFIX, night_url

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class NightLink(BaseOperatorLink):
    """The link, which the API server computes: tasks have it before they run, and when they are skipped."""

    name = "Night"
    operators = [
        PlanOperator,
        DownloadOperator,
        SnapshotOperator,
        MLStepOperator,
        DataGateOperator,
        SchemaReviewOperator,
        GateOperator,
        ReleaseOperator,
        VerdictOperator,
    ]

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        return night_url(ti_key.dag_id.removesuffix(DAG_SUFFIX), ti_key.run_id)
