"""The four nodes that run on Beam, over taxi trips, without the rest of a night.

    python -m tests.support.beam_nodes prepare ROWS             in the state that the environment names
    python -m tests.support.beam_nodes publish                  what `prepare` has written
    python -m tests.support.beam_nodes run NAME [BEAM_ARGS…]    without arguments of Beam in this process

`run` prints the seconds of each node, as JSON.
"""

import datetime as dt
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.io.files import hash_file
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.snapshot import SnapshotFile, SnapshotManifest
from nightly.schemas.curated import read_schema
from nightly.state import publish
from tests.support.data import TAXI

GROUP_ROWS = 100_000
SHARD_ROWS = 1_000_000
OUTPUTS = {
    "examples": {"examples": "Examples"},
    "statistics": {"statistics": "ExampleStatistics"},
    "transform": {"transform_graph": "TransformGraph", "transformed_examples": "Examples"},
    "evaluator": {"evaluation": "ModelEvaluation"},
}


def pipeline() -> Path:
    return Paths.from_environment().pipeline / "taxi"


def output(node: str, name: str, run: str) -> Path:
    return pipeline() / node / name / run


def snapshot() -> Path:
    return Paths.from_environment().snapshots / "taxi" / "20160101-000000-trips"


# --- what they read


def prepare(rows: int) -> None:
    """Write and publish a snapshot, the curated schema, and a model."""
    write_snapshot(snapshot(), rows)
    schema = output("schema", "schema", "1")
    schema.mkdir(parents=True)
    shutil.copy(load_config("taxi").folder / "schema.pbtxt", schema / "schema.pbtxt")
    write_model(output("trainer", "model", "1"))
    publish_inputs()


def publish_inputs() -> None:
    for path in (snapshot(), output("schema", "schema", "1"), output("trainer", "model", "1")):
        publish(path)


def write_snapshot(folder: Path, rows: int) -> None:
    """Write the trips, and more that differ from them in their fares and miles."""
    folder.mkdir(parents=True)
    trips, random = typed(pd.read_csv(TAXI)), np.random.default_rng(0)
    group_rows = min(GROUP_ROWS, -(-rows // 6))
    files = []
    for number, first in enumerate(range(0, rows, SHARD_ROWS)):
        path = folder / f"rows-{number:05d}.parquet"
        writer = None
        last = min(first + SHARD_ROWS, rows)
        for start in range(first, last, group_rows):
            some = trips.take(np.arange(start, min(start + group_rows, last)) % len(trips)).reset_index(drop=True)
            for name in ("fare", "trip_miles") if start >= len(trips) else ():
                some[name] = (some[name] * random.uniform(0.8, 1.2, len(some))).round(2)
            table = pa.Table.from_pandas(some, preserve_index=False)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table.cast(writer.schema), row_group_size=group_rows)
        writer.close()
        files.append(SnapshotFile(name=path.name, rows=last - first, bytes=path.stat().st_size, sha256=hash_file(path)))
    day = dt.datetime(2016, 1, 1, tzinfo=dt.UTC)
    SnapshotManifest(
        snapshot_id=folder.name, model="taxi", rows=rows, window_start=day, window_end=day, first_row=day,
        last_row=day, columns={}, schema_fingerprint="", label_counts={}, files=files, source=[], source_sha256=[],
        code_version="tests", created_at=day,
    ).save(folder / "manifest.json")  # fmt: skip


def typed(trips: pd.DataFrame) -> pd.DataFrame:
    """Give the columns the types that the curated schema has."""
    names = {schema_pb2.INT: "Int64", schema_pb2.FLOAT: "float64", schema_pb2.BYTES: "string"}
    features = read_schema(load_config("taxi").folder).feature
    types = {feature.name: names[feature.type] for feature in features}
    return trips.astype({name: kind for name, kind in types.items() if name in trips.columns})


def write_model(folder: Path) -> None:
    """Write a model that knows the fare alone."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {"fare": tf.io.FixedLenFeature([1], tf.float32, default_value=0.0)}
        return {"probability": tf.sigmoid(tf.io.parse_example(examples, spec)["fare"] / 20 - 1)}

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(folder / "Format-Serving"), signatures={"serving_default": serve})


# --- the nodes


def run(name: str, beam_args: list[str]) -> dict[str, float]:
    """Run the nodes, publish their outputs as the run `name`, and return the seconds of each."""
    from tfx.types import standard_artifacts

    def artifact(kind: str, path: Path, splits: bool = False) -> object:
        made = getattr(standard_artifacts, kind)()
        made.uri = str(path)
        if splits:
            made.split_names = json.dumps(["train", "eval"])
        return made

    schema = artifact("Schema", output("schema", "schema", "1"))
    model = artifact("Model", output("trainer", "model", "1"))
    inputs = {"examples": {}, "statistics": {}, "transform": {"schema": [schema]}, "evaluator": {"model": [model]}}
    seconds = {}
    for node, executor in executors(beam_args).items():
        outputs = {key: [artifact(kind, output(node, key, name))] for key, kind in OUTPUTS[node].items()}
        if node != "examples":
            inputs[node]["examples"] = [artifact("Examples", output("examples", "examples", name), splits=True)]
        for (made,) in outputs.values():
            Path(made.uri).mkdir(parents=True)
        began = time.monotonic()
        executor.Do(inputs[node], outputs, parameters(node, beam_args))
        seconds[node] = round(time.monotonic() - began, 1)
        print(node, seconds[node], file=sys.stderr, flush=True)
        for (made,) in outputs.values():
            publish(Path(made.uri))
    return seconds


def executors(beam_args: list[str]) -> dict[str, object]:
    from tfx.dsl.components.base import base_beam_executor

    from nightly.tfx.components.evaluator import SideBySideEvaluator
    from nightly.tfx.components.examples import SnapshotExampleGen
    from nightly.tfx.components.statistics import InProcessStatisticsGen
    from nightly.tfx.components.transform import BeamTransformExecutor, InProcessTransform

    transform = InProcessTransform.EXECUTOR_SPEC.executor_class()
    if beam_args:
        folder = output("transform", "tmp", "1")
        context = base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=beam_args, tmp_dir=str(folder))
        transform = BeamTransformExecutor(context)
    return {
        "examples": SnapshotExampleGen.EXECUTOR_SPEC.executor_class(),
        "statistics": InProcessStatisticsGen.EXECUTOR_SPEC.executor_class(),
        "transform": transform,
        "evaluator": SideBySideEvaluator.EXECUTOR_SPEC.executor_class(),
    }


def parameters(node: str, beam_args: list[str]) -> dict[str, object]:
    from nightly.tfx.pipeline import PREPROCESSING_FN

    config = load_config("taxi")
    columns = "\n".join(pq.ParquetFile(next(snapshot().glob("rows-*.parquet"))).schema_arrow.names)
    of_node = {
        "examples": {
            "snapshot": str(snapshot()),
            "columns": columns,
            "id_columns": columns,
            "label": config.data.label.column,
            "eval_percent": config.data.eval_percent,
        },
        "statistics": {},
        "transform": {"preprocessing_fn": PREPROCESSING_FN, "custom_config": json.dumps({"model": "taxi"})},
        "evaluator": {
            "label": config.data.label.model_dump_json(),
            "metrics": json.dumps(sorted(config.model_gate.metrics)),
            "slices": json.dumps(config.model_gate.slices),
            "production_version": 0,
        },
    }
    on_beam = {"beam_args": json.dumps(beam_args)} if beam_args and node != "transform" else {}
    return of_node[node] | on_beam


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(int(sys.argv[2]))
    elif sys.argv[1] == "publish":
        publish_inputs()
    else:
        print(json.dumps(run(sys.argv[2], sys.argv[3:])))
