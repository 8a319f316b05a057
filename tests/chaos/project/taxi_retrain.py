"""The nightly retrain of taxi trips in Airflow, with the bounds of the fault campaign: a stopped step ends sooner."""

import datetime as dt
import os

from nightly_airflow.retrain import retrain_dag

STEP = dt.timedelta(seconds=float(os.environ["CHAOS_STEP_SECONDS"]))
RETRY = dt.timedelta(seconds=float(os.environ["CHAOS_RETRY_SECONDS"]))

dag = retrain_dag("taxi")
for task in dag.tasks:
    task.execution_timeout = min(task.execution_timeout or STEP, STEP)
    task.retry_delay = min(task.retry_delay, RETRY)
    task.max_retry_delay = 2 * RETRY
