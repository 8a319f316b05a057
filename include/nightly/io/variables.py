"""Every environment variable of the project: its name, meaning and default. Other modules read them through these.

docs/reference/variables.md is generated from these tables.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """An environment variable. An empty value counts as not set."""

    name: str
    description: str
    default: str = ""

    def read(self, environment: Mapping[str, str] = os.environ) -> str:
        """Return the variable's value, or its default."""
        return environment.get(self.name) or self.default


STATE = Variable(
    "NIGHTLY_STATE",
    "Where all state is: a folder, or a bucket that many hosts share, `s3://bucket/prefix`, `gs://…` or `az://…`. "
    "Without it, the folder `NIGHTLY_VAR`. See [Many hosts](../how-to/many-hosts.md).",
)
VAR = Variable(
    "NIGHTLY_VAR", "The folder of all state; if the state is in a bucket, this host's copies and sockets.", "var"
)
CACHE_BYTES = Variable(
    "NIGHTLY_CACHE_BYTES",
    "How much of a bucket's content a host keeps, at most; what was used least recently is removed first.",
    "20_000_000_000",
)
SESSION = Variable(
    "NIGHTLY_SESSION", "Set by a task for its own child processes: the folder of the task's session with the bucket."
)
POD = Variable("NIGHTLY_POD", "Set for a step in Kubernetes: the name of its pod.")
ML_PYTHON = Variable("NIGHTLY_ML_PYTHON", "The ML environment's Python.", ".venv/ml/bin/python")

# Each is a folder of this name below NIGHTLY_VAR, unless its own variable sets another path.
FOLDERS = {
    "downloads": "Bodies as sources delivered them: `<model>/bodies/`. Their records: `<model>/parts/`.",
    "snapshots": "Snapshots: `<model>/<snapshot id>/`.",
    "nights": "The records of each night, as JSON files: `<model>/<run>/`.",
    "baselines": "Statistics of accepted snapshots, which later nights are compared with: `<model>/`.",
    "pipeline": "TFX artifacts: `<model>/<node>/`.",
    "metadata": "ML Metadata, unless `NIGHTLY_METADATA_DB` names a database: `<model>.sqlite`.",
    "serving": "The volume that the model server watches: `<model>/<version>/`.",
    "releases": "Release records: `<model>/<version>.json`.",
    "predictions": "Requests and answers that clients log: `<model>/`.",
    "feedback": "Labels that become known later, as files: `<model>/`.",
    "schemas": "Approved versions of the curated schemas: `<model>/<version>.pbtxt`.",
    "run": "Sockets and locks.",
}
FOLDER_VARIABLES = {name: Variable(f"NIGHTLY_{name.upper()}", text, name) for name, text in FOLDERS.items()}

SERVING_REST = Variable(
    "NIGHTLY_SERVING_REST",
    "The model server's REST address, `host:port`. Set it together with `NIGHTLY_SERVING_GRPC`, or neither: then the "
    "address in `server.json` of the serving volume is used.",
)
SERVING_GRPC = Variable("NIGHTLY_SERVING_GRPC", "The model server's gRPC address, `host:port`.")
SERVING_BASE_PATH = Variable(
    "NIGHTLY_SERVING_BASE_PATH",
    "The serving volume as the model server sees it, where that differs from `NIGHTLY_SERVING`.",
)
METADATA_DB = Variable(
    "NIGHTLY_METADATA_DB",
    "A PostgreSQL database for ML Metadata, `postgresql://user:password@host:port/name`. Without it each model has a "
    "SQLite file.",
)

WARM = Variable(
    "NIGHTLY_WARM",
    "`0` runs each step in a new process. Otherwise steps are forks of the warm host, which has imported TensorFlow.",
    "1",
)
POOL = Variable(
    "NIGHTLY_POOL",
    "Airflow's pool of the ML steps, which must exist. Where the DAG processor loads the plugin, the plugin creates "
    "the pool `ml` and sets this. Elsewhere the steps are in Airflow's default pool.",
)
HOST_IDLE_SECONDS = Variable(
    "NIGHTLY_HOST_IDLE_SECONDS", "How long the warm host waits for the next step before it ends, in seconds.", "900"
)
LOG_LEVEL = Variable(
    "NIGHTLY_LOG_LEVEL",
    "`DEBUG` logs what TFX, Beam and TensorFlow log, too, and shows the traceback of a user's error.",
)
CODE_VERSION = Variable(
    "NIGHTLY_CODE_VERSION", "The version of the code for the records, where there is no git repository to ask."
)

VENVS = Variable("NIGHTLY_VENVS", "Where the set-up puts the environments (`make setup`).", ".venv")
TRIAL = Variable(
    "NIGHTLY_TRIAL",
    "Where `make test-containers` keeps the container engine that it unpacks.",
    "/var/tmp/nightly-trial",
)

GROUPS = {
    "State and folders": [STATE, CACHE_BYTES, VAR, *FOLDER_VARIABLES.values()],
    "Model server and database": [SERVING_REST, SERVING_GRPC, SERVING_BASE_PATH, METADATA_DB],
    "Running steps": [ML_PYTHON, WARM, POOL, HOST_IDLE_SECONDS, LOG_LEVEL, CODE_VERSION, SESSION],
    "Set-up and tests": [VENVS, TRIAL],
    "Set in pods": [POD],
}
