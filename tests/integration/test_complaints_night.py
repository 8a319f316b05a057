"""A night of real consumer complaints, downloaded over HTTP from a server that fails first."""

import subprocess
import sys
from pathlib import Path

import pytest
import requests

from nightly.records.night import Download
from nightly.records.snapshot import SnapshotManifest
from nightly.records.verdict import Outcome

ROOT = Path(__file__).resolve().parent.parent.parent
DAG = "complaints_retrain"


@pytest.fixture(scope="module")
def server(nights, complaints):
    """The complaints behind a copy of the bureau's API, and an Airflow connection that names it."""
    command = [sys.executable, ROOT / "tests/support/faulty_server.py", "--csv", complaints, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().split()[-1]
        nights.airflow.api(
            "post", "connections", json={"connection_id": "complaints_api", "conn_type": "http", "host": address}
        )
        yield address
        process.terminate()


def test_a_night_survives_the_servers_faults_and_is_judged(nights, server):
    origin = server.partition("/api/")[0]
    faults = [
        {"fault": "status", "status": 503, "headers": {"Retry-After": "1"}},
        {"fault": "drop", "after": 2000},
    ]
    requests.post(f"{origin}/faults", json=faults, timeout=10).raise_for_status()
    run = nights.trigger(DAG, as_of="2016-03-16", release="yes", train_steps=60)
    nights.wait(DAG, run)
    verdict = nights.verdict(DAG, run)
    assert verdict.outcome in (Outcome.RELEASED, Outcome.HELD_MODEL), verdict.summary
    folder = nights.folder(DAG, run)
    download = Download.load(folder / "download.json")
    assert sum(file.bytes for file in download.files) > 100_000
    manifest = SnapshotManifest.load(nights.paths.snapshots / "complaints" / verdict.snapshot_id / "manifest.json")
    assert manifest.rows == verdict.rows > 2000
    assert {"Yes", "No"} <= set(manifest.label_counts)
    assert len(requests.get(f"{origin}/requests", timeout=10).json()) > len(download.files)


def test_a_window_after_the_label_was_given_up_has_no_data_here(nights, server):
    run = nights.trigger(DAG, as_of="2018-03-01")
    nights.wait(DAG, run)
    assert nights.verdict(DAG, run).outcome is Outcome.NO_DATA
