#!/usr/bin/env python3
"""Stands where the ML environment's Python does, and finds what NIGHTLY_TEST_SCRIPT says, so that a test can have
each outcome at will. It speaks the worker's protocol: -m nightly.runtime.worker STEP NIGHT_FOLDER RESULT_FILE

NIGHTLY_TEST_SCRIPT is JSON, step -> "hold" (a gate), "empty" (the snapshot), "fail", "die", or "hang".
"""

import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

step, night, result = sys.argv[-3], Path(sys.argv[-2]), Path(sys.argv[-1])
how = json.loads(os.environ.get("NIGHTLY_TEST_SCRIPT", "{}")).get(step, "")
now = dt.datetime.now(dt.UTC).isoformat()
value: dict = {}

if connections := [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
    (night / "connections").write_text(f"{step}: {connections}")  # of the last step that has one

print(f"INFO nightly.{step}: {step} begins", file=sys.stderr, flush=True)
if how == "hang":
    child = subprocess.Popen(["sleep", "600"])
    (night / "pids").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)
if how == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "fail":
    result.write_text(json.dumps({"error": f"ValueError: {step} met a column it does not know", "retry": True}))
    sys.exit(1)

if step == "snapshot":
    value = {"snapshot_id": "ab" * 32, "path": "/nowhere", "rows": 0 if how == "empty" else 4242, "created": True}
if step == "nightly.tfx.production:prepare":
    request = json.loads((night / "request.json").read_text())
    version = request["production_version"]
    value = {"production_version": None, "damaged_version": version, "damage": f"taxi {version} is damaged"}
    (night / "request.json").write_text(json.dumps(request | value))
    step = "prepared"
if step in ("data_gate", "model_gate"):
    passed = {"check": "min_rows", "subject": "", "figure": 4242, "threshold": 600, "message": "4,242 rows"}
    drift = {"check": "drift", "subject": "payment_type", "figure": 0.31, "threshold": 0.1, "message": "it drifted"}
    label = {"check": "label_share", "subject": "tips", "figure": 0.2, "threshold": 0.9, "message": "labels are few"}
    reasons = [{**passed, "held": False}]
    if how == "hold":
        reasons += [{**drift, "held": True, "action": "Ask the source's owner."}, {**label, "held": True}]
    value = {"gate": step[:-5], "passed": how != "hold", "reasons": reasons, "decided_at": now}
if step == "release":
    request = json.loads((night / "request.json").read_text())
    value = {
        **{key: request[key] for key in ("model", "run_id", "code_version", "requested_by")},
        "version": 1480000000,
        "state": "released",
        "snapshot_id": "ab" * 32,
        "metrics": {"auc": 0.71},
        "files": {},
        "path": "/nowhere",
        "previous_version": None,
        "released_at": now,
    }
if value:
    (night / f"{step}.json").write_text(json.dumps(value))
result.write_text(json.dumps({"value": value}))
