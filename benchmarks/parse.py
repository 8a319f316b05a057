"""The time to parse all DAG files, without the import of Airflow itself."""

import json
import os
import statistics
import subprocess
from pathlib import Path

from benchmarks.common import Goal, Result, main, spread
from nightly.io.paths import ROOT

ROUNDS = 7
# Imports what the DAG processor's child imports before it parses, then parses each file.
SCRIPT = """
import gc, json, sys, time
from airflow.sdk import DAG
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.standard.operators.empty import EmptyOperator
sys.path.insert(0, sys.argv[1] + "/plugins")
gc.collect()
gc.freeze()  # as the DAG processor does before it forks
began = time.perf_counter()
bag = DagBag(dag_folder=sys.argv[1] + "/dags")
print(json.dumps({"seconds": time.perf_counter() - began, "dags": sorted(bag.dags), "errors": bag.import_errors,
                  "tensorflow": "tensorflow" in sys.modules}))
"""


def run(quick: bool, folder: Path) -> Result:
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAG_DISCOVERY_SAFE_MODE": "False",
    }
    command = [ROOT / ".venv/airflow/bin/python", "-c", SCRIPT, ROOT]
    runs = []
    for _ in range(ROUNDS):
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(result.stderr)
        runs.append(json.loads(result.stdout.splitlines()[-1]))
        if runs[-1]["errors"] or runs[-1]["tensorflow"]:
            raise RuntimeError(f"the DAG files do not parse as they should: {runs[-1]}")
    seconds = [parse["seconds"] for parse in runs]
    table = [{"DAG files": len(runs[0]["dags"]), "seconds": spread(seconds, 3)}]
    goal = Goal("parse of all DAG files beyond Airflow's import", statistics.median(seconds), "s", at_most=0.3)
    return Result([goal], {"Parse of all DAG files, in a new process": table}, runs)


if __name__ == "__main__":
    main(run)
