"""The config's section on where the steps of a night run: in the worker's ML environment, or in Kubernetes pods."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from nightly.io.hints import did_you_mean
from nightly.records.section import Section, without_repeats
from nightly.records.tasks import TASKS, VERDICT

Where = Literal["host", "kubernetes"]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]
Folder = Annotated[str, Field(pattern=r"^/[^\s]*$")]

# What the config can run elsewhere: a night's tasks with work in the ML environment (of `plan`, its checks), and the
# DAGs `canary` and `rollback`.
RUNNABLE = (*(task for task in TASKS if task not in ("schema_review", VERDICT)), "canary", "rollback")


class Toleration(Section):
    """A taint of nodes that a pod tolerates, as in Kubernetes' own `tolerations`."""

    key: str = ""
    """The taint's key. Empty, with `operator = "Exists"`: every taint."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """`Equal`: the taint has this `value`; `Exists`: any value."""
    value: str = ""
    """The taint's value."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """The taint's effect. Empty: every effect."""


class Pod(Section):
    """The pod of a step. The namespace, the secrets and the service account must exist."""

    image: str = ""
    """The image with the ML environment and the project, such as `registry.example.org/nightly-retrain:2026-11-28`."""
    python: Folder = "/opt/nightly/ml/bin/python"
    """The ML environment's Python in the image."""
    project: Folder = "/opt/airflow"
    """The project's folder in the image."""
    namespace: str = ""
    """The namespace. Empty: that of the Airflow connection, else that of Airflow's own pod, else `default`."""
    connection: str = "kubernetes_default"
    """The Airflow connection of the cluster. Empty: the cluster that Airflow itself runs in."""
    service_account: str = ""
    """The pod's service account, such as one that may read and write the bucket. Empty: the namespace's default."""
    secrets: list[str] = []
    """Kubernetes secrets whose keys become environment variables of the pod: `NIGHTLY_METADATA_DB`, and the bucket's
    credentials unless a service account has them."""
    env: dict[str, str] = {}
    """Further environment variables, which are not secret, such as `AWS_REGION`."""
    cpu: Quantity = "1"
    """The processors that the pod requests, such as `4` or `500m`. It may use more if the node has them free."""
    memory: Quantity = "4Gi"
    """The memory that the pod requests, which is also its limit."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """The GPUs that the pod requests. `training.gpus` says how many the training uses."""
    gpu_resource: str = "nvidia.com/gpu"
    """The cluster's name of a GPU."""
    disk: Quantity = "20Gi"
    """The most that the step may write to the node's disk, for copies of the bucket's content."""
    node_selector: dict[str, str] = {}
    """Labels that the pod's node must have."""
    tolerations: list[Toleration] = []
    """Taints of nodes that the pod tolerates."""
    image_pull_secrets: list[str] = []
    """Kubernetes secrets that the image is pulled with."""
    start_seconds: Annotated[int, Field(ge=1)] = 900
    """How long a pod may wait for a node and its image, in seconds, before the task's next try."""

    @field_validator("secrets", "image_pull_secrets")
    @classmethod
    def _named_once(cls, names: list[str]) -> list[str]:
        return without_repeats(names)

    @field_validator("env")
    @classmethod
    def _not_secret(cls, env: dict[str, str]) -> dict[str, str]:
        if "NIGHTLY_METADATA_DB" in env:
            raise ValueError(
                "NIGHTLY_METADATA_DB has a password: put it into a Kubernetes secret, and name that in secrets"
            )
        return env


class StepRun(Pod):
    """Where one step runs, and the keys of its pod that differ from `[run.kubernetes]`."""

    where: Where | None = None
    """`host` or `kubernetes`, for this step alone."""


class Run(Section):
    """Where the steps run. See [Steps in Kubernetes](../how-to/kubernetes-steps.md)."""

    where: Where = "host"
    """`host`: in the ML environment of Airflow's worker. `kubernetes`: each step in a pod of its own."""
    kubernetes: Pod = Pod()
    """The pod of every step that runs in Kubernetes."""
    steps: dict[str, StepRun] = {}
    """Steps by name, such as `[run.steps.trainer]`, each with the keys that differ. `plan`, `canary` and `rollback` are
    names, too."""

    @field_validator("steps")
    @classmethod
    def _steps_exist(cls, steps: dict[str, StepRun]) -> dict[str, StepRun]:
        for name in steps:
            if name not in RUNNABLE:
                raise ValueError(f"there is no step {name!r}" + did_you_mean(name, list(RUNNABLE)))
        return steps

    @model_validator(mode="after")
    def _pods_have_an_image(self) -> "Run":
        for step in RUNNABLE:
            if (pod := self.pod(step)) and not pod.image:
                raise ValueError(f"{step} runs in Kubernetes, in a pod without an image: set run.kubernetes.image")
        return self

    def pod(self, step: str) -> Pod | None:
        """Return the pod of `step`, or None if it runs on the worker's host."""
        own = self.steps.get(step, StepRun())
        if (own.where or self.where) == "host":
            return None
        return Pod.model_validate({**_set(self.kubernetes), **_set(own)})

    @property
    def on_hosts(self) -> bool:
        """Whether any step runs in the worker's ML environment."""
        return any(self.pod(step) is None for step in RUNNABLE)


def section_of(step: str) -> str:
    """Return the section of the config with the step's pod; a user's `module:function` has none of its own."""
    return f"run.steps.{step}" if step in RUNNABLE else "run.kubernetes"


def _set(pod: Pod) -> dict[str, object]:
    """Return the keys that the config sets."""
    return {name: getattr(pod, name) for name in pod.model_fields_set if name != "where"}
