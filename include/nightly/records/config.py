"""A model's config.toml, validated on reading. docs/reference/config.md, which lists its keys, is generated from here.

Both environments, Airflow's and the ML one, import this module.
"""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from nightly.io.hints import did_you_mean
from nightly.io.paths import MODELS
from nightly.records import metrics
from nightly.records.base import ContractError
from nightly.records.data_config import Data, Schedule
from nightly.records.data_gate_config import DataGate
from nightly.records.run_config import Run
from nightly.records.section import Days, Section, without_repeats
from nightly.records.source_config import SourceConfig

Allowance = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(min_length=1, max_length=100)]  # Airflow refuses a longer tag


class SchemaReviewing(Section):
    """If nothing but the schema holds a night, it waits for a person to approve a change. A backfill never waits."""

    hours: Annotated[float, Field(ge=0)] = 12
    """How long a night waits for an answer, in hours. The next night starts when this one has ended, so stay below the
    schedule's interval. With `0` no night waits, but proposals are still recorded."""


class Bound(Section):
    """The bounds of a metric. `floor` and `max_drop` are for metrics where higher is better."""

    floor: float | None = None
    """Smallest value."""
    ceiling: float | None = None
    """Largest value."""
    max_drop: Allowance | None = None
    """How far the metric may be below that of the model in production."""
    max_rise: Allowance | None = None
    """How far the metric may be above that of the model in production."""

    @model_validator(mode="after")
    def _one_direction(self) -> "Bound":
        if (self.floor is not None or self.max_drop is not None) and (
            self.ceiling is not None or self.max_rise is not None
        ):
            raise ValueError("a metric has a floor and max_drop, or a ceiling and max_rise, not a mix of both")
        if all(value is None for value in (self.floor, self.ceiling, self.max_drop, self.max_rise)):
            raise ValueError("give at least one of floor, ceiling, max_drop, max_rise: none means no verdict")
        return self


class ModelGate(Section):
    """What a model must satisfy, overall and per slice: fixed bounds, and changes against the model in production."""

    metrics: dict[str, Bound] = {}
    """Metrics, each with its bounds: `auc` or `binary_crossentropy` of a binary label, `accuracy` or `macro_f1_score`
    of classes, `mean_absolute_error` of a number, or any other of [Metrics](../metrics.md)."""
    must_beat_constant: bool = True
    """Holds a model that is not certainly better than the best constant answer of its training split."""
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.05
    """The probability of holding a model for a change that is due to chance, over all metrics, slices and classes
    together."""
    undecided: Literal["release", "hold"] = "release"
    """What to do when the examples are too few to tell whether the model is worse than `max_drop` or `max_rise`
    allow."""
    slices: list[str] = []
    """Columns to slice by. `slice_metrics` bound each value that has `min_slice_rows` examples."""
    slice_metrics: dict[str, Bound] = {}
    """Metrics of each slice, with their bounds."""
    class_metrics: dict[str, Bound] = {}
    """`precision`, `recall` and `f1_score` of each class that has `min_slice_rows` examples, with their bounds."""
    min_slice_rows: Annotated[int, Field(ge=1)] = 100
    """Smallest number of examples in a slice or class whose bounds apply."""
    damaged_production: Literal["bounds_only", "hold"] = "bounds_only"
    """What to do when the files in production are damaged and cannot be repaired, so that there is nothing to compare
    with. `bounds_only` applies only the fixed bounds and the comparison with the constant answer, as in a first night;
    `hold` holds the model."""

    @field_validator("slices")
    @classmethod
    def _sliced_once(cls, columns: list[str]) -> list[str]:
        return without_repeats(columns)

    @model_validator(mode="after")
    def _judges_something(self) -> "ModelGate":
        if not (self.metrics or self.must_beat_constant):
            raise ValueError(
                "metrics is empty and must_beat_constant is false, so no model would be held: bound at least one metric"
            )
        if self.slice_metrics and not self.slices:
            raise ValueError("slice_metrics judge nothing without slices: name the columns to slice by")
        return self


class Training(Section):
    """How a model is trained."""

    steps: Annotated[int, Field(ge=1)] = 500
    """Training steps."""
    batch_size: Annotated[int, Field(ge=1)] = 512
    """Examples in a step."""
    hyperparameters: dict[str, int | float | str | bool] = {}
    """Values for the model's own code."""
    gpus: Annotated[int, Field(ge=1)] | Literal["all"] = 1
    """GPUs of one host that train together, each on its share of every batch; `"all"`: as many as there are. See
    [Several GPUs](../how-to/kubernetes-steps.md#several-gpus)."""
    refit: bool = False
    """With `data.eval = "newest"`: after the model gate, trains again on all rows, and releases that model. The model
    that the gate judged stays inside it, for the comparison with the next night's."""


class Pipeline(Section):
    """How the steps compute whose work grows with the rows. Beam is slower for data that one machine can hold."""

    reuse: bool = True
    """Reuses the work of an earlier night if data, code and config are the same."""
    engine: Literal["in_process", "beam"] = "in_process"
    """`in_process` streams in the step's own process; `beam` runs a Beam job."""
    beam_args: list[str] = []
    """Beam's own options, such as `["--runner=FlinkRunner", "--flink_master=…"]`. `plan` checks them."""

    @model_validator(mode="after")
    def _args_are_beams(self) -> "Pipeline":
        if self.beam_args and self.engine != "beam":
            raise ValueError('beam_args have no effect: set engine = "beam" too')
        return self


class Vertex(Section):
    """Registers each release in Vertex AI, as a version of the model of the same name, with the alias `default`."""

    project: str
    """The Google Cloud project."""
    region: str
    """Its region, such as `europe-west4`."""
    image: str
    """The serving container, such as `us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest`."""
    endpoint: Annotated[str, Field(pattern=r"^(https?://[^/]+)?$")] = ""
    """Replaces `https://REGION-aiplatform.googleapis.com`. An endpoint of `http://` gets no credentials."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 1800
    """How long to wait until Vertex AI has the version, in seconds."""


class CanaryConfig(Section):
    """Sends a release to a share of the callers first, and compares it with the version in production.

    The comparison is by the mean loss of a prediction, from 0 to 1: the Brier score of a binary label, half the Brier
    score of classes, or the rank error of a number, which [Canary](../how-to/canary.md#the-loss) defines.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The share of the callers. Clients divide the callers, so give them the same: `Canary(share=…)` of the client."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """The smallest difference that matters. The canary is promoted once the interval's upper bound is below it. Half
    the margin needs four times the labels."""
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.05
    """The probability of a wrong decision, over all nights of the comparison together."""
    min_labelled: Annotated[int, Field(ge=100)] = 500
    """Smallest number of labelled predictions of each version before any decision."""
    max_days: Days = 14
    """How long a comparison may last, in days."""
    undecided: Literal["stop", "promote"] = "stop"
    """How a comparison ends that is still undecided then."""
    labels: Annotated[list[Literal["snapshots", "feedback"]], Field(min_length=1)] = ["snapshots", "feedback"]
    """Where later labels come from: rows of later snapshots by their `id_columns`, files in `var/feedback/MODEL`, or
    both."""


class Release(Section):
    """How a model is released. [Variables](variables.md#model-server-and-database) name the model server."""

    keep: Annotated[int, Field(ge=2)] = 5
    """Versions in the serving volume. The one in production and its predecessor always stay."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 180
    """How long to wait until the server says that a new version is AVAILABLE, in seconds."""
    tolerance: Annotated[float, Field(ge=0)] = 1e-5
    """Largest difference between the server's golden predictions and those computed at the export: absolute up to 1,
    and relative to predictions beyond."""
    latency_factor: Annotated[float, Field(ge=1)] = 3
    """Largest ratio of the new version's p99 latency to that of the version before."""
    gcs: str = ""
    """`gs://BUCKET/PREFIX`: every release is copied there, below the model's name."""
    vertex: Vertex | None = None
    """Registration in Vertex AI, which reads the model from `gcs`."""
    canary: CanaryConfig | None = None
    """A canary. Without it a release goes to all callers at once."""

    @model_validator(mode="after")
    def _targets_make_sense(self) -> "Release":
        if self.gcs and not re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[^/#?*\[\]\s]+)*", self.gcs):
            raise ValueError(f"gcs is {self.gcs!r}: give gs://BUCKET or gs://BUCKET/PREFIX, without a / at its end")
        if self.vertex and not self.gcs:
            raise ValueError("vertex reads the model from a bucket: set release.gcs too")
        return self


class Retention(Section):
    """What is kept."""

    runs: Annotated[int, Field(ge=2)] = 14
    """Runs whose pipeline artifacts are kept, so that they can be rerun from the middle."""
    snapshots: Annotated[int, Field(ge=1)] = 30
    """Snapshots that were used last, whatever the verdict of their nights."""
    accepted_snapshots: Annotated[int, Field(ge=1)] = 60
    """Snapshots, in all, that an accepted or released night refers to. Those of versions that are kept stay anyway."""
    baselines: Annotated[int, Field(ge=60)] = 400
    """Statistics of accepted snapshots, which drift is measured against. 400 cover a year of nights, for
    `same_season`."""


class ModelConfig(Section):
    """A model's `config.toml`."""

    name: str
    """The model's name: lower-case letters, digits and `_`."""
    description: str
    """What the model is for, in a sentence."""
    owner: Name = "ml"
    """The owner of the DAG in Airflow."""
    tags: list[Name] = []
    """Tags of the DAG in Airflow."""
    source: SourceConfig
    """Where the data comes from; its keys depend on `kind`."""
    schedule: Schedule = Schedule()
    """When a night begins."""
    data: Data
    """The columns, and the window of a night."""
    data_gate: DataGate = DataGate()
    """What the data must satisfy."""
    schema_review: SchemaReviewing = SchemaReviewing()
    """How long a night waits for a person to review the schema."""
    model_gate: ModelGate = ModelGate()
    """What a model must satisfy."""
    training: Training = Training()
    """How the model is trained."""
    pipeline: Pipeline = Pipeline()
    """How the steps compute."""
    run: Run = Run()
    """Where the steps run."""
    release: Release = Release()
    """How the model is released."""
    retention: Retention = Retention()
    """What is kept."""

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError("a model's name is lower-case letters, digits and _, and begins with a letter")
        return name

    @model_validator(mode="after")
    def _metrics_suit_the_label(self) -> "ModelConfig":
        gate, kind = self.model_gate, self.data.label.kind
        names = metrics.NAMES[kind]
        sections = {"metrics": names, "slice_metrics": names, "class_metrics": metrics.OF_CLASSES[kind]}
        for section, known in sections.items():
            for name in getattr(gate, section):
                if metrics.listed_name(name) not in known or name in metrics.FIXED_RATES:
                    raise ValueError(
                        f"model_gate.{section}: there is no metric {name!r} of a label of kind {kind!r}"
                        + did_you_mean(name, [known_name.replace("_N", "_90") for known_name in known])
                    )
        return self

    @model_validator(mode="after")
    def _refits_what_was_held_out(self) -> "ModelConfig":
        if self.training.refit and self.data.eval != "newest":
            raise ValueError(
                'training.refit trains on the newest days too, and data.eval = "hash" holds out none: set '
                'data.eval = "newest", or leave refit out'
            )
        return self

    @model_validator(mode="after")
    def _pods_have_the_gpus(self) -> "ModelConfig":
        for step in ("trainer", "refit"):
            pod, gpus = self.run.pod(step), self.training.gpus
            if pod and gpus != "all" and gpus > max(pod.gpus, 1):
                raise ValueError(f"training.gpus is {gpus}, and the pod of {step} has {pod.gpus}: raise run.….gpus")
        return self

    @model_validator(mode="after")
    def _labels_can_be_joined(self) -> "ModelConfig":
        canary = self.release.canary
        if canary and "snapshots" in canary.labels and not self.data.id_columns:
            raise ValueError(
                "release.canary.labels has `snapshots`, and data.id_columns is empty: without an id no row of a "
                'snapshot can be joined to a logged prediction. Name the id\'s columns, or set labels = ["feedback"]'
            )
        return self

    @property
    def folder(self) -> Path:
        return MODELS / self.name

    def with_overrides(self, overrides: dict[str, Any]) -> "ModelConfig":
        """Return this config with thresholds replaced for one run, e.g. {"data_gate.min_rows": 100}.

        `drift.FEATURE` and `skew.FEATURE` are only validated: they replace the schema's comparators.
        Raises ContractError.
        """
        data = self.model_dump()
        for key, value in overrides.items():
            section, _, rest = key.partition(".")
            if section in ("drift", "skew") and rest:
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                    raise ContractError(f"threshold {key!r} is {value!r}: give a number, 0 or more")
                continue
            if section not in ("data_gate", "model_gate") or not rest:
                raise ContractError(
                    f"threshold {key!r}: only data_gate.…, model_gate.…, drift.FEATURE and skew.FEATURE can be "
                    "overridden for a run" + did_you_mean(section, ["data_gate", "model_gate", "drift", "skew"])
                )
            target = data[section]
            *path, last = rest.split(".")
            for part in path:
                target = target.setdefault(part, {})
                if not isinstance(target, dict):
                    raise ContractError(f"threshold {key!r}: {part} is a value and has nothing below it")
            target[last] = value
        return ModelConfig.parse(data, where="a threshold given for this run")
