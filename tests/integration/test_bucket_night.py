"""A night whose state is in a bucket: its host's folder is deleted afterwards, and nothing is lost."""

import json
import shutil

import pytest

from local.airflow import LocalAirflow
from nightly.io.paths import ROOT, safe_name
from nightly.records.verdict import Outcome, Verdict
from tests.support import object_stores
from tests.support.airflow_nights import Nights
from tests.support.postgresql import running_database

DAG = "taxi_retrain"


@pytest.fixture(scope="module", params=["scripted", "real"])
def steps(request, warm) -> dict[str, str]:
    """The environment of scripted steps, which take no time, or of the real ones."""
    if request.param == "real":
        return warm
    return {"NIGHTLY_ML_PYTHON": str(ROOT / "tests/support/scripted_ml.py"), "NIGHTLY_WARM": "0"}


@pytest.fixture(scope="module")
def in_bucket(tmp_path_factory, trips, steps):
    """An Airflow with its state in S3 and ML Metadata in PostgreSQL; the host's own folder has no part of Airflow."""
    folder = tmp_path_factory.mktemp("in-bucket")
    with object_stores.s3() as s3, running_database() as database:
        s3.put("nights/other", b"")
        environment = steps | {
            "NIGHTLY_STATE": "s3://nights/state",
            "NIGHTLY_VAR": str(folder / "var"),
            "NIGHTLY_METADATA_DB": database.url("mlmd"),
            "AWS_ENDPOINT_URL": s3.address,
            "AWS_ACCESS_KEY_ID": "worker",
            "AWS_SECRET_ACCESS_KEY": "planted-secret",
            "AWS_REGION": "us-east-1",
            "AIRFLOW_CONN_TAXI_FILES": json.dumps({"conn_type": "fs", "extra": {"path": str(trips)}}),
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        }
        with LocalAirflow(folder / "airflow", environment).running() as airflow:
            airflow.api("patch", f"dags/{DAG}", json={"is_paused": False})
            yield Nights(airflow, folder / "var")


def test_a_night_is_shown_after_its_hosts_folder_was_deleted_and_the_next_one_goes_on(in_bucket, steps):
    first = in_bucket.trigger(DAG, as_of="2015-05-02", release="yes")
    in_bucket.wait(DAG, first)
    verdict = verdict_of(in_bucket, first)
    assert verdict.outcome is Outcome.RELEASED, verdict.summary
    assert in_bucket.run(DAG, first)["note"].startswith("**✓ RELEASED")

    shutil.rmtree(in_bucket.var)
    answer = in_bucket.airflow.page(f"/nightly/taxi/nights/{safe_name(first)}")
    text = answer.text
    assert answer.ok, text[:500]
    assert "Released" in text and str(verdict.version) in text
    assert not (in_bucket.var / "nights").exists()
    if "NIGHTLY_WARM" in steps:  # scripted steps make nothing that a page draws or a night reuses
        return
    assert "payment_type" in text, "the distributions are drawn"

    again = in_bucket.trigger(DAG, as_of="2015-05-02", release="no")
    in_bucket.wait(DAG, again)
    second = verdict_of(in_bucket, again)
    assert second.outcome is Outcome.ACCEPTED, second.summary
    assert second.reused.get("trainer") == first


def verdict_of(nights: Nights, run: str) -> Verdict:
    """Return the verdict that the task gave to XCom: the night's folder is nowhere but in the bucket."""
    path = f"dags/{DAG}/dagRuns/{run}/taskInstances/verdict/xcomEntries/return_value"
    value = nights.airflow.api("get", path, params={"deserialize": "false"})["value"]
    return Verdict.parse(json.loads(value) if isinstance(value, str) else value, where="the verdict's XCom")
