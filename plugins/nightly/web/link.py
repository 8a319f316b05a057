"""From a task in Airflow's UI to the page of its night."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

from nightly.operators.download import DownloadOperator
from nightly.operators.ml import GateOperator, MLStepOperator, ReleaseOperator, SnapshotOperator
from nightly.operators.plan import PlanOperator
from nightly.operators.review import DataGateOperator, SchemaReviewOperator
from nightly.operators.verdict import VerdictOperator
from nightly.web.address import DAG_SUFFIX, night_url

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class NightLink(BaseOperatorLink):
    """Worked out by the API server: a task has it before it has run, and when it was skipped."""

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
