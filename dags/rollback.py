"""The Airflow DAG that rolls production back to an earlier version."""

import datetime as dt

from airflow.sdk import DAG, Param

from nightly.models import model_names
from nightly_airflow.operators.rollback import RollbackOperator
from nightly_airflow.retries import RETRIES, StepRetries

DOC = """\
Rolls a model back: the chosen version is in production again, and every newer one is quarantined.

- **If a model server is configured**, the label `stable` moves first, so that no request fails; then the newer
  versions leave the serving volume, and a restart of the server does not bring them back.
- **The next night** is compared with that version: its model by the model gate, its data by drift.
- **A quarantined version** is not released again, neither by a retry of its run nor by a later night of the same data.
  A night of other data releases a new version as usual: pause the model's DAG to prevent that.
- **To list the versions**: `bin/releases list MODEL`.
"""

with DAG(
    dag_id="rollback",
    description="Rolls production back to an earlier version of a model",
    doc_md=DOC,
    schedule=None,
    max_active_runs=1,
    params={
        "model": Param(model_names()[0], type="string", enum=model_names(), section="What", description="Which model"),
        "version": Param(
            "previous",
            type="string",
            pattern=r"^(previous|\d{10})$",
            section="What",
            description="The version to go back to, or `previous`: the one before that in production",
        ),
        "reason": Param(type="string", minLength=1, section="Why", description="Goes into the records"),
    },
    tags=["nightly", "release"],
) as dag:
    RollbackOperator(  # without a pool, so that it does not wait for a training
        task_id="rollback",
        model="{{ params.model }}",
        version="{{ params.version }}",
        reason="{{ params.reason }}",
        doc_md="Rolls back and logs the result. **If it fails**: the error says why; clear the task to complete it.",
        retries=RETRIES,
        retry_policy=StepRetries(own=1),
        retry_delay=dt.timedelta(seconds=10),
        retry_exponential_backoff=2.0,
        execution_timeout=dt.timedelta(minutes=30),
    )
