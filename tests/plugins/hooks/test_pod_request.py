"""What the pod of a step is asked to be, from the config and the worker's environment."""

import datetime as dt
import os
import subprocess
import sys

import pytest
from kubernetes.client import ApiClient

from nightly.io.paths import ROOT, Paths
from nightly.records.run_config import Pod
from nightly_airflow.hooks.pod_request import pod_arguments, secret_of, with_secret
from nightly_airflow.hooks.pods import PodOfStep


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setenv("NIGHTLY_STATE", "s3://state/prefix")
    monkeypatch.setenv("NIGHTLY_VAR", "/opt/airflow/var")
    monkeypatch.setenv("NIGHTLY_SESSION", "/opt/airflow/var/cache/sessions/of-this-task")
    monkeypatch.setenv("NIGHTLY_METADATA_DB", "postgresql://nightly:planted@db/nightly")
    monkeypatch.setenv("NIGHTLY_SERVING_REST", "serving:8501")
    return Paths.from_environment()


def request(paths: Paths, pod: Pod, step: str = "example_validator") -> dict:
    arguments = pod_arguments(pod, "taxi", step, "scheduled__2016", paths, dt.timedelta(hours=12))
    operator = PodOfStep(task_id="pod", secret={}, random_name_suffix=False, **arguments)
    built = operator.build_pod_request_obj(dry_run=True)
    return ApiClient().sanitize_for_serialization(with_secret(built, "of-the-source"))


def test_the_whole_request(paths):
    pod = Pod(image="nightly:1", namespace="ml", secrets=["steps"], env={"AWS_REGION": "eu-west-1"}, cpu="500m")
    asked = request(paths, pod)
    assert asked["metadata"]["name"] == "nightly-taxi-example-validator" and asked["metadata"]["namespace"] == "ml"
    (container,) = asked["spec"]["containers"]
    assert container["command"] == ["/opt/nightly/ml/bin/python", "-P", "-m", "nightly.runtime.pod"]
    assert container["args"] == ["example_validator", "taxi", "scheduled__2016"]
    assert container["resources"] == {"requests": {"cpu": "500m", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}
    secrets = [source["secretRef"]["name"] for source in container["envFrom"]]
    assert secrets == ["steps", "of-the-source"]
    folders = ("", "/include", "/client", "/server", "/plugins")
    assert {variable["name"]: variable.get("value") for variable in container["env"]} == {
        "NIGHTLY_STATE": "s3://state/prefix",
        "NIGHTLY_SERVING_REST": "serving:8501",
        "NIGHTLY_VAR": "/opt/airflow/var",
        "PYTHONPATH": ":".join(f"/opt/airflow{folder}" for folder in folders),
        "PYTHONUNBUFFERED": "1",
        "AWS_REGION": "eu-west-1",
        "NIGHTLY_POD": None,
    }
    assert container["env"][-1]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert container["volumeMounts"] == [{"mountPath": "/opt/airflow/var", "name": "state"}]
    assert asked["spec"]["volumes"] == [{"emptyDir": {"sizeLimit": "20Gi"}, "name": "state"}]
    assert asked["spec"]["restartPolicy"] == "Never" and asked["spec"]["activeDeadlineSeconds"] == 12 * 3600
    assert asked["spec"]["automountServiceAccountToken"] is False
    assert "planted" not in str(asked)


def test_a_folder_of_its_own_on_the_worker_is_the_pod_s_too_and_on_its_volume(paths, monkeypatch):
    monkeypatch.setenv("NIGHTLY_PIPELINE", "/srv/artifacts")
    monkeypatch.setenv("NIGHTLY_SERVING", "/opt/airflow/var/models")
    (container,) = request(Paths.from_environment(), Pod(image="nightly:1", namespace="ml"))["spec"]["containers"]
    values = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert (values["NIGHTLY_PIPELINE"], values["NIGHTLY_SERVING"]) == ("/srv/artifacts", "/opt/airflow/var/models")
    assert "NIGHTLY_NIGHTS" not in values  # only the session of this task has it elsewhere
    assert container["volumeMounts"] == [
        {"mountPath": "/opt/airflow/var", "name": "state"},
        {"mountPath": "/srv/artifacts", "name": "state", "subPath": "pipeline"},
    ]


def test_a_function_s_pod_is_named_after_it(paths):
    asked = request(paths, Pod(image="nightly:1", namespace="ml"), "nightly.serving.rollback:step")
    assert asked["metadata"]["name"] == "nightly-taxi-step"
    assert asked["spec"]["containers"][0]["args"][0] == "nightly.serving.rollback:step"


def test_gpus_are_a_request_and_a_limit(paths):
    asked = request(paths, Pod(image="nightly:1", namespace="ml", gpus=2, gpu_resource="amd.com/gpu"))
    resources = asked["spec"]["containers"][0]["resources"]
    assert resources["requests"]["amd.com/gpu"] == resources["limits"]["amd.com/gpu"] == "2"


def test_a_service_account_has_its_token(paths):
    asked = request(paths, Pod(image="nightly:1", namespace="ml", service_account="steps"))
    assert asked["spec"]["serviceAccountName"] == "steps" and "automountServiceAccountToken" not in asked["spec"]


def test_without_a_connection_it_is_the_cluster_that_airflow_runs_in(paths):
    arguments = pod_arguments(Pod(image="nightly:1", connection=""), "taxi", "schema", "run", paths, None)
    assert arguments["kubernetes_conn_id"] is None and arguments["in_cluster"] is True


def test_a_secret_is_owned_by_its_pod(paths):
    pod = ApiClient()._ApiClient__deserialize(
        {"metadata": {"name": "nightly-taxi-download-x", "namespace": "ml", "uid": "u-1", "labels": {"a": "b"}}},
        "V1Pod",
    )
    secret = ApiClient().sanitize_for_serialization(secret_of(pod, {"AIRFLOW_CONN_TRIPS": "planted"}))
    assert secret["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "nightly-taxi-download-x", "uid": "u-1"}
    ]
    assert secret["stringData"] == {"AIRFLOW_CONN_TRIPS": "planted"} and secret["immutable"]


@pytest.mark.slow
def test_the_airflow_side_imports_no_ml_library():
    code = (
        "import sys, nightly_airflow.hooks.pods, nightly_airflow.operators.ml;"
        "sys.exit(bool({'tensorflow', 'tfx', 'apache_beam', 'ml_metadata'} & sys.modules.keys()))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/include:{ROOT}/plugins"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=300).returncode == 0
