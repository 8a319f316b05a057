"""The environment of every part of the cluster, on all hosts."""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path
from typing import Any

from nightly.io.paths import python_path
from tests.hosts.project import TRIPS
from tests.hosts.services import Bucket

HEARTBEAT_SECONDS = 60  # until a task whose host is silent is dead


def environment(folder: Path, project: Path, bucket: Bucket, database: Any, broker: str) -> dict[str, str]:
    """Return the variables of Airflow and of the project.

    :param folder: the cluster's
    :param project: the copy of the project that runs
    :param broker: Redis's URL
    """
    var = folder / "var"
    url = database.url("airflow").removeprefix("postgresql:")
    trips = {"conn_type": "fs", "extra": {"path": str(project / TRIPS)}}
    return {
        **bucket.environment,
        "PYTHONPATH": python_path(project),
        "NIGHTLY_VAR": str(var),
        "NIGHTLY_SERVING_BASE_PATH": str(folder / "volume"),
        "NIGHTLY_METADATA_DB": database.url("mlmd"),
        "NIGHTLY_CODE_VERSION": "hosts",
        "HOSTS_RETRY_SECONDS": "5",
        "AIRFLOW_CONN_TAXI_FILES": json.dumps(trips),
        "AIRFLOW_HOME": str(var / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2:{url}",
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(24),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(24),
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2:{url}",
        "AIRFLOW__CELERY__OPERATION_TIMEOUT": "30",
        "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
        "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
        # A message that a dead worker had taken comes back after this; it must last longer than a step.
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "600",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_SECONDS),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "15",
    }
