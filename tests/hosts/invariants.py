"""What must hold after any nights on hosts, whatever was done to the hosts. Each function yields what is wrong."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

from nightly.records.release import ReleaseRecord
from nightly.records.verdict import Outcome
from tests.hosts.cluster import ENDED, Cluster
from tests.hosts.project import MODELS

RUNNING = "SELECT id, name FROM execution WHERE last_known_state IN (1, 2)"  # NEW and RUNNING of ML Metadata
LIVE = ("canary", "released")


def violations(cluster: Cluster) -> list[str]:
    """Return everything that does not hold, a sentence each; all runs have ended."""
    found = [*_metadata(cluster), *_state(cluster)]
    for model in MODELS:
        records = releases(cluster, model)
        found += [*_versions(model, records), *_served(cluster, model, records), *_verdicts(cluster, model, records)]
    return found


def releases(cluster: Cluster, model: str) -> list[ReleaseRecord]:
    """The release records of the bucket, the oldest version first."""
    keys = [key for key in cluster.bucket.keys(f"records/releases/{model}/") if key.rpartition("/")[2][:1].isdecimal()]
    records = [cluster.bucket.record(*key.split("/")[1:]) for key in sorted(keys)]
    return [ReleaseRecord.model_validate(record) for record in records if record]


def _versions(model: str, records: list[ReleaseRecord]) -> Iterator[str]:
    kept = [record for record in records if not record.taken_back]
    for run, count in Counter(record.run_id for record in kept).items():
        if count > 1:
            yield f"{count} versions of {model} are of run {run}"
    moments = [record.released_at for record in records]
    if moments != sorted(moments):
        yield f"the versions of {model} do not increase: {[(r.version, str(r.released_at)) for r in records]}"


def _served(cluster: Cluster, model: str, records: list[ReleaseRecord]) -> Iterator[str]:
    """The model server's volume has what the records say, whole."""
    folder = cluster.volume / model
    live = {record.version: record for record in records if record.state in LIVE}
    there = {int(path.name) for path in folder.glob("*") if path.name.isdecimal()}
    if there != set(live):
        yield f"the model server's volume has the versions {sorted(there)} of {model}, and the records {sorted(live)}"
    for version in there & set(live):
        for name, sha256 in live[version].files.items():
            path = folder / str(version) / name
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
                yield f"{path} is not what was released"


def _verdicts(cluster: Cluster, model: str, records: list[ReleaseRecord]) -> Iterator[str]:
    for run in cluster.runs(model):
        run_id, verdict = run["dag_run_id"], cluster.verdict(model, run["dag_run_id"])
        if run["state"] not in ENDED:
            continue
        if verdict is None:
            yield f"run {run_id} has no verdict"
            continue
        if (run["state"] == "failed") != (verdict.outcome is Outcome.FAILED):
            yield f"the verdict on {run_id} is {verdict.outcome}, and Airflow has the run as {run['state']}"
        versions = [record.version for record in records if record.run_id == run_id and not record.taken_back]
        expected = [verdict.version] if verdict.outcome is Outcome.RELEASED else []
        if versions != expected:
            yield f"the verdict on {run_id} is {verdict.outcome} of {verdict.version}, and its records have {versions}"


def _metadata(cluster: Cluster) -> Iterator[str]:
    if running := cluster.database.run("mlmd", RUNNING):
        yield f"{len(running)} executions of ML Metadata are still running: {running[:5]}"


def _state(cluster: Cluster) -> Iterator[str]:
    done = cluster.command("bin/state", "check", "--content")
    if done.returncode:
        yield f"bin/state check --content ends with {done.returncode}: {(done.stdout + done.stderr).strip()[-2000:]}"
