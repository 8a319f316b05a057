"""Production goes back to an earlier version, by a form, as an Airflow DAG."""

import datetime as dt

from airflow.sdk import DAG, Param

from nightly.models import model_names
from nightly_airflow.operators.rollback import RollbackOperator
from nightly_airflow.retries import RETRIES, StepRetries

DOC = """\
Takes a released model back: the version given is in production again, every newer one is quarantined.

- **Where the model server is configured** the label `stable` moves first, so that no request fails; then the newer
  versions leave the serving volume, and a restart of the server does not bring them back.
- **The next night** is compared with the version gone back to: its model by the model gate, its data by drift.
- **What was taken back** is not released again, neither by a retry of its run nor by a later night of the same data. A
  night of other data releases a new version as usual: pause the model's DAG to keep it from that.
- **Which versions there are**: `bin/releases list MODEL`.
"""

with DAG(
    dag_id="rollback",
    description="Production goes back to an earlier version of a model",
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
        "reason": Param(type="string", minLength=1, section="Why", description="Stands in the records"),
    },
    tags=["nightly", "release"],
) as dag:
    RollbackOperator(  # in no pool: it does not wait for a training to end
        task_id="rollback",
        model="{{ params.model }}",
        version="{{ params.version }}",
        reason="{{ params.reason }}",
        doc_md="Does it, and says what it did. **If it fails**: its error says why; clear it to complete it.",
        retries=RETRIES,
        retry_policy=StepRetries(own=1),
        retry_delay=dt.timedelta(seconds=10),
        retry_exponential_backoff=2.0,
        execution_timeout=dt.timedelta(minutes=30),
    )
