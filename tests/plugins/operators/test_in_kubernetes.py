"""A step in a pod, by an API server and a node that runs the pod's command here; the state is in a bucket."""

import asyncio
import datetime as dt
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout, TaskDeferred
from kubernetes.client import V1Container

from nightly.io.paths import ROOT, Paths
from nightly.io.polling import poll
from nightly.records.night import StepError
from nightly.records.run_config import Run
from nightly.state import current
from nightly_airflow.hooks.ml import MLInfrastructureFailed, MLProcessDied, MLStepFailed
from nightly_airflow.hooks.pods import PodHook, PodOfStep
from nightly_airflow.operators import ml
from nightly_airflow.operators.ml import GateOperator, MLStepOperator
from tests.support import object_stores
from tests.support.cluster import NAMESPACE, Cluster, role_of, running_cluster

pytestmark = pytest.mark.slow

ROLE = ROOT / "docs/how-to/kubernetes-steps.md"
DATABASE = "postgresql://nightly:planted-password@127.0.0.1:1/nightly"
STEPS = "tests.support.steps:"


@pytest.fixture(scope="module")
def s3() -> Iterator[object_stores.ObjectStore]:
    with object_stores.s3() as server:
        server.put("state/other/object", b"")
        yield server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, s3: object_stores.ObjectStore) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), {"PATH": os.environ["PATH"]}) as cluster:
        cluster.allow(role_of(ROLE))
        credentials = {"AWS_ACCESS_KEY_ID": "worker", "AWS_SECRET_ACCESS_KEY": "planted-key"}
        cluster.create_secret("nightly", {"NIGHTLY_METADATA_DB": DATABASE, **credentials})
        yield cluster


@pytest.fixture
def airflow(cluster, s3, tmp_path, monkeypatch) -> None:
    """The environment of Airflow's worker and triggerer."""
    values = {
        "NIGHTLY_STATE": "s3://state/prefix",
        "NIGHTLY_VAR": str(tmp_path / "var"),
        "NIGHTLY_METADATA_DB": DATABASE,
        "NIGHTLY_ML_PYTHON": "/no/such/python",  # nothing of this side needs the ML environment
        "AWS_ENDPOINT_URL": s3.address,
        "AWS_ACCESS_KEY_ID": "worker",
        "AWS_SECRET_ACCESS_KEY": "planted-key",
        "AWS_REGION": "us-east-1",
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": cluster.connection(),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)


class Night:
    """One run, whose tasks run in pods."""

    def __init__(self, s3: object_stores.ObjectStore, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        kubernetes = {
            "image": "registry.example.org/nightly:1",
            "python": str(ROOT / ".venv/ml/bin/python"),
            "project": str(ROOT),
            "secrets": ["nightly"],
            "env": {"AWS_ENDPOINT_URL": s3.address, "AWS_REGION": "us-east-1"},
            "memory": "3Gi",
        }
        self.kubernetes, self.monkeypatch, self.run_id = kubernetes, monkeypatch, f"run-of-{name}"
        self.xcoms: dict[str, Any] = {}

    def task(self, step: str, kind: type[MLStepOperator] = MLStepOperator, minutes: float = 10) -> MLStepOperator:
        config = SimpleNamespace(run=Run.model_validate({"where": "kubernetes", "kubernetes": self.kubernetes}))
        self.monkeypatch.setattr(ml, "load_config", lambda model: config)
        timeout = dt.timedelta(minutes=minutes)
        with DAG("taxi_retrain"):
            task = kind(task_id="trainer", step=step, model="taxi", run_id=self.run_id, execution_timeout=timeout)
        task.allow_nested_operators = True
        return task

    def context(self, task: MLStepOperator, attempt: int = 1) -> dict[str, Any]:
        ti = SimpleNamespace(
            dag_id="taxi_retrain",
            task_id=task.task_id,
            run_id=self.run_id,
            map_index=-1,
            try_number=attempt,
            start_date=dt.datetime.now(dt.UTC),
            xcom_push=lambda key, value: self.xcoms.update({key: value}),
        )
        return {"ti": ti, "run_id": self.run_id, "dag": task.dag, "task": task}

    def start(self, task: MLStepOperator, attempt: int = 1) -> TaskDeferred:
        with pytest.raises(TaskDeferred) as deferral:
            task.execute(self.context(task, attempt))
        return deferral.value

    def run(self, task: MLStepOperator, meanwhile: Callable[[str], object] = lambda pod: None, attempt: int = 1) -> Any:
        """Run the task as Airflow does: until it defers, its trigger, and then the task in another process."""
        deferred = self.start(task, attempt)
        trigger = serialized(deferred.trigger)
        thread = threading.Thread(target=meanwhile, args=(trigger.pod_name,))
        thread.start()
        event = asyncio.run(first(trigger)).payload
        thread.join()
        again = self.task(task.step, type(task))
        again.execution_timeout = task.execution_timeout
        return getattr(again, deferred.method_name)(self.context(again, attempt), event=event)

    def records(self) -> dict[str, str]:
        with current().session("taxi") as paths:
            folder = paths.night("taxi", self.run_id)
            return {path.name: path.read_text() for path in folder.glob("*")}


def serialized(trigger: Any) -> Any:
    """Return the trigger as the triggerer makes it."""
    classpath, arguments = trigger.serialize()
    assert classpath.endswith("KubernetesPodTrigger")
    return type(trigger)(**arguments)


async def first(trigger: Any) -> Any:
    return await anext(aiter(trigger.run()))


async def watch_for_a_while(trigger: Any) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(first(trigger), timeout=2)
    await trigger.cleanup()


@pytest.fixture
def night(airflow, s3, monkeypatch, request) -> Night:
    return Night(s3, monkeypatch, request.node.name)


def running(cluster: Cluster) -> Callable[[str], object]:
    """Return what waits until the pod's process runs."""

    def wait(name: str) -> None:
        assert poll(lambda: name in cluster.kubelet.containers, every=0.1, seconds=120), f"the pod {name} did not start"
        time.sleep(1)

    return wait


def ended(cluster: Cluster) -> Callable[[str], object]:
    """Return what waits until the node has reported the end of the pod's process."""

    def wait(name: str) -> None:
        running(cluster)(name)
        cluster.kubelet.containers[name].process.wait(timeout=120)
        time.sleep(2)

    return wait


def nothing_is_left(cluster: Cluster) -> bool:
    return poll(lambda: not cluster.api.list_namespaced_pod(NAMESPACE).items, every=0.2, seconds=60)


def test_the_pod_works_in_a_session_of_its_own_and_the_task_gets_its_result(night, cluster):
    result = night.run(night.task(STEPS + "record"))

    assert result == {"local": os.environ["NIGHTLY_VAR"], "connections": []}
    assert {"trained.json"} < night.records().keys()
    assert not list(Paths.from_environment().var.glob("nights/*"))  # the pod has no disk of this host
    assert nothing_is_left(cluster)


def test_the_request_has_what_the_config_says_and_no_secret(night, cluster):
    night.kubernetes |= {
        "cpu": "2",
        "gpus": 2,
        "node_selector": {"cloud.example.org/gpu": "l4"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
    night.run(night.task(STEPS + "record"))
    (pod,) = [pod for pod in cluster.kubelet.seen.values() if pod["metadata"]["labels"]["run_id"] in night.run_id]

    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert pod["metadata"]["namespace"] == NAMESPACE
    assert container["image"] == "registry.example.org/nightly:1"
    assert [*container["command"][1:], *container["args"]] == [
        *("-P", "-m", "nightly.runtime.pod"),
        *(STEPS + "record", "taxi", night.run_id),
    ]
    assert container["resources"] == {
        "requests": {"cpu": "2", "memory": "3Gi", "nvidia.com/gpu": "2"},
        "limits": {"memory": "3Gi", "nvidia.com/gpu": "2"},
    }
    assert container["envFrom"] == [{"secretRef": {"name": "nightly"}}]
    values = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert values["NIGHTLY_STATE"] == "s3://state/prefix" and "NIGHTLY_METADATA_DB" not in values
    assert spec["nodeSelector"] == {"cloud.example.org/gpu": "l4"}
    toleration = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert toleration in spec["tolerations"]
    assert spec["restartPolicy"] == "Never" and spec["activeDeadlineSeconds"] == 600
    assert spec["automountServiceAccountToken"] is False
    assert "planted" not in json.dumps(pod)


def test_the_source_s_connection_is_in_a_secret_that_goes_with_the_pod(night, cluster, monkeypatch):
    connection = {"AIRFLOW_CONN_TRIPS": "postgres://reader:planted@127.0.0.1:1/trips"}
    monkeypatch.setattr(MLStepOperator, "environment", lambda self: connection)
    secrets = []

    def look(name: str) -> None:
        running(cluster)(name)
        secrets.append(cluster.api.read_namespaced_secret(name, NAMESPACE))

    result = night.run(night.task(STEPS + "record"), look)
    assert result["connections"] == ["AIRFLOW_CONN_TRIPS"]
    (owner,) = secrets[0].metadata.owner_references
    assert (owner.kind, owner.name) == ("Pod", secrets[0].metadata.name)
    assert owner.uid == cluster.kubelet.seen[owner.name]["metadata"]["uid"]
    assert "planted" not in json.dumps(cluster.kubelet.seen[owner.name])


def test_the_log_is_in_the_task_s_with_its_levels(night, capsys):
    night.run(night.task(STEPS + "speak"))
    log = capsys.readouterr().out
    assert all(re.search(line, log) for line in (r"\[info *\] first line", r"\[warning *\] a warning", r"\] last line"))


def test_an_error_of_the_step_is_the_task_s_and_in_the_records(night, cluster):
    with pytest.raises(MLStepFailed, match=r"^ValueError: the third column is missing$"):
        night.run(night.task(STEPS + "fail"))
    error = StepError.parse(night.records()["trainer.error.json"], where="the records")
    assert error.message == "ValueError: the third column is missing"
    assert nothing_is_left(cluster)


def test_a_pod_without_access_to_the_bucket_says_so_and_is_not_retried(night):
    night.kubernetes["env"] |= {"NIGHTLY_STATE": "s3://nowhere/prefix"}
    with pytest.raises(AirflowFailException, match=r"^StateRefusedError: s3://nowhere/prefix: the bucket does"):
        night.run(night.task(STEPS + "record"))


def test_a_crash_quotes_the_end_of_the_log(night):
    with pytest.raises(MLProcessDied, match=r"ended without a result: exit code 137|exit code 134, reason Error"):
        night.run(night.task(STEPS + "crash"))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("memory", r"exit code 137, reason OOMKilled. It may have 3Gi of memory: raise run\.kubernetes\.memory if"),
        ("evicted", r"Kubernetes ended the pod \S+: Evicted. The node was low on resource: memory"),
        ("deleted", r"the pod \S+ was deleted while it ran, by a person or with its node"),
        ("drained", r"the pod \S+ was deleted while it ran, by a person or with its node"),
    ],
)
def test_what_kubernetes_does_to_a_pod_is_an_error_of_the_infrastructure(night, cluster, monkeypatch, how, message):
    pods, read = [], PodHook._read

    def read_and_remove(*call):
        pods.append(read(*call))
        cluster.kubelet.removes.set()
        return pods[-1]

    monkeypatch.setattr(PodHook, "_read", staticmethod(read_and_remove))

    def meanwhile(name: str) -> None:
        running(cluster)(name)
        if how == "memory":
            cluster.kubelet.kill_for_memory(name)
        elif how == "evicted":
            cluster.kubelet.evict(name, "The node was low on resource: memory")
        elif how == "drained":  # the pod is still there when the task reads it
            cluster.kubelet.removes.clear()
            cluster.api.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=30)
        else:
            cluster.api.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)

    with pytest.raises(MLInfrastructureFailed, match=message):
        night.run(night.task(STEPS + "hang_with_a_child"), meanwhile)
    assert "trainer.error.json" in night.records()
    assert [pod is None for pod in pods] == [how == "deleted"]

    assert night.run(night.task(STEPS + "record"), attempt=2)["connections"] == []  # a retry has a pod of its own
    assert "trainer.error.json" not in night.records()


def test_an_image_that_cannot_be_pulled_says_so(night, cluster, monkeypatch):
    night.kubernetes["start_seconds"] = 3
    monkeypatch.setattr(cluster.kubelet, "pulls", False)
    with pytest.raises(MLInfrastructureFailed, match="did not start: ImagePullBackOff: no such image"):
        night.run(night.task(STEPS + "record"))
    assert nothing_is_left(cluster)


def test_the_time_that_a_task_is_allowed_ends_its_pod(night, cluster):
    with pytest.raises(AirflowTaskTimeout):
        night.run(night.task(STEPS + "hang_with_a_child", minutes=0.3))
    assert "the time it is allowed" in night.records()["trainer.error.json"]
    assert nothing_is_left(cluster)


def test_a_killed_task_deletes_its_pod_and_the_step_s_processes(night, cluster):
    task = night.task(STEPS + "hang_with_a_child")
    name = night.start(task).trigger.pod_name
    running(cluster)(name)
    task.on_kill()
    assert nothing_is_left(cluster)
    assert cluster.kubelet.containers[name].process.poll() is not None


def test_a_sidecar_that_runs_on_does_not_keep_a_result_from_the_next_try(night, cluster, monkeypatch):
    build = PodOfStep.build_pod_request_obj

    def inject(self, context=None, **kwargs):
        request = build(self, context, **kwargs)
        request.spec.containers.append(V1Container(name="mesh-proxy", image="registry.example.org/mesh:1"))
        return request

    monkeypatch.setattr(PodOfStep, "build_pod_request_obj", inject)
    name = night.start(night.task(STEPS + "record")).trigger.pod_name  # the worker dies before Airflow has the deferral
    ended(cluster)(name)
    assert night.run(night.task(STEPS + "record"), attempt=2)["connections"] == []
    assert list(cluster.kubelet.containers)[-1] == name  # no pod was started for the second try
    assert nothing_is_left(cluster)


@pytest.mark.parametrize("secret", [{}, {"AIRFLOW_CONN_TRIPS": "postgres://reader:planted@127.0.0.1:1/trips"}])
def test_the_next_try_takes_over_the_pod_of_a_worker_that_died(night, cluster, monkeypatch, secret):
    monkeypatch.setattr(MLStepOperator, "environment", lambda self: secret)
    name = night.start(night.task(STEPS + "record_after_a_while")).trigger.pod_name
    running(cluster)(name)
    assert night.run(night.task(STEPS + "record_after_a_while"), attempt=2) == {"connections": list(secret)}
    assert list(cluster.kubelet.containers)[-1] == name
    assert nothing_is_left(cluster)


def test_the_next_triggerer_goes_on_with_the_pod(night, cluster):
    task = night.task(STEPS + "record_after_a_while")
    deferred = night.start(task)
    running(cluster)(deferred.trigger.pod_name)
    asyncio.run(watch_for_a_while(serialized(deferred.trigger)))  # and the triggerer is stopped
    event = asyncio.run(first(serialized(deferred.trigger))).payload
    assert night.task(task.step).resume(night.context(task), event=event) == {"connections": []}
    assert nothing_is_left(cluster)


def test_a_deferred_task_that_is_marked_as_failed_deletes_its_pod(night, cluster):
    trigger = serialized(night.start(night.task(STEPS + "hang_with_a_child")).trigger)
    running(cluster)(trigger.pod_name)
    asyncio.run(trigger.on_kill())
    assert nothing_is_left(cluster)
    assert cluster.kubelet.containers[trigger.pod_name].process.poll() is not None


def test_a_function_of_a_task_does_not_take_over_the_pod_of_another(night, cluster):
    """As when the worker of `plan` has died during the repair of production."""
    task = night.task(STEPS + "record")
    store: dict[str, Any] = {}
    context = night.context(task) | {"task_state_store": SimpleNamespace(get=store.get, set=store.__setitem__)}
    pod = ml.load_config("taxi").run.pod("plan")
    with current().session("taxi") as paths:
        night_of_task = {"model": "taxi", "run_id": night.run_id, "paths": paths}
        paths.night("taxi", night.run_id).mkdir(parents=True)
        repair, check = (
            PodHook(pod, step=STEPS + function, task="plan", timeout=dt.timedelta(minutes=5), **night_of_task)
            for function in ("hang_with_a_child", "record")
        )
        running(cluster)(repair.start(context, {}).trigger.pod_name)
        assert check.run(context)["connections"] == []
        repair.kill()
    assert nothing_is_left(cluster)


def test_a_gate_in_a_pod_still_ends_the_night(night, cluster, monkeypatch):
    held: list[Any] = []
    monkeypatch.setattr(GateOperator, "reason_to_stop", lambda self, result: "the gate held the night")
    monkeypatch.setattr(GateOperator, "tasks_to_skip", lambda self, context, stop: ["downstream"] if stop else [])

    def skip(self, ti, tasks):
        held.extend(tasks)
        raise AirflowSkipException

    monkeypatch.setattr(GateOperator, "skip", skip)
    with pytest.raises(AirflowSkipException):
        night.run(night.task(STEPS + "record", GateOperator))
    assert held == ["downstream"] and night.xcoms["return_value"]["connections"] == []


def test_without_a_bucket_a_pod_is_refused(night, monkeypatch, tmp_path):
    monkeypatch.setenv("NIGHTLY_STATE", str(tmp_path / "folder"))
    with pytest.raises(AirflowFailException, match="has no disk of this worker, and the state is in the folder"):
        task = night.task(STEPS + "record")
        task.execute(night.context(task))
