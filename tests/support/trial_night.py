"""One night of a model in this process, on real rows: TF Transform on Beam's direct runner, the Trainer's run_fn."""

import csv
import datetime as dt
import hashlib
import importlib.resources
import re
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_transform.tf_metadata import metadata_io
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx_bsl.coders import example_coder
from tfx_bsl.tfxio import tf_example_record

from nightly.models import load_config
from nightly.records.config import ModelConfig
from nightly.training.transforming import preprocessing_fn
from tests.support.data import COMPLAINTS

CASTS = {schema_pb2.INT: lambda text: int(float(text)), schema_pb2.FLOAT: float, schema_pb2.BYTES: str.encode}
ARROW = {schema_pb2.INT: pa.int64(), schema_pb2.FLOAT: pa.float32(), schema_pb2.BYTES: pa.binary()}


def read_schema(config: ModelConfig) -> schema_pb2.Schema:
    return text_format.Parse((config.folder / "schema.pbtxt").read_text(), schema_pb2.Schema())


def rows_of(config: ModelConfig, as_of: str) -> list[dict[str, str]]:
    """The rows of the night's window, columns in snake_case; skips where the file is not there."""
    if config.name == "complaints":
        path = COMPLAINTS
    else:
        package, _, inside = config.source.path.removeprefix("package:").partition("/")
        path = Path(str(importlib.resources.files(package))) / inside
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with path.open(newline="") as file:
        header = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in next(csv.reader(file))]
        rows = [dict(zip(header, row, strict=True)) for row in csv.reader(file)]
    end = dt.datetime.fromisoformat(as_of) - dt.timedelta(days=config.data.late_days)
    begin = end - dt.timedelta(days=config.data.look_back_days)
    return [row for row in rows if begin <= _time(row[config.data.time_column], config.data.time_format) < end]


def split(rows: list[dict[str, str]], percent: int) -> dict[str, list[dict[str, str]]]:
    """By a hash of the row, as the pipeline does."""
    sides = {"train": [], "eval": []}
    for row in rows:
        bucket = int(hashlib.sha256("|".join(row.values()).encode()).hexdigest()[:8], 16) % 100
        sides["eval" if bucket < percent else "train"].append(row)
    return sides


def as_arrow(rows: list[dict[str, str]], schema: schema_pb2.Schema) -> pa.RecordBatch:
    """Each feature of the schema that the rows have, as lists: of at most one value, or of a row's own list."""
    columns = {}
    for feature in schema.feature:
        if feature.name in rows[0]:
            cast = CASTS[feature.type]
            values = [_as_list(row[feature.name], cast) for row in rows]
            columns[feature.name] = pa.array(values, pa.list_(ARROW[feature.type]))
    return pa.RecordBatch.from_pydict(columns)


def _as_list(value: str | list, cast) -> list | None:
    if isinstance(value, list):
        return value or None
    return [cast(value)] if value else None


def transform(config: ModelConfig, sides: dict[str, list[dict[str, str]]], folder: Path) -> FnArgs:
    """Raw and transformed examples under `folder`, and what the Trainer would be given for them."""
    schema = read_schema(config)
    source = tf_example_record.TFExampleBeamRecord(physical_format="inmem", schema=schema)
    encoder = example_coder.RecordBatchToExamplesEncoder()
    serialized = {side: encoder.encode(as_arrow(rows, schema)) for side, rows in sides.items()}
    write(folder / "raw/Split-eval/data_tfrecord-00000-of-00001", serialized["eval"])

    with beam.Pipeline() as pipeline, tft_beam.Context(temp_dir=str(folder / "tmp"), force_tf_compat_v1=False):
        train = pipeline | beam.Create(serialized["train"]) | source.BeamSource()
        analyze = tft_beam.AnalyzeDataset(lambda inputs: preprocessing_fn(inputs, {"model": config.name}))
        _ = ((train, source.TensorAdapterConfig()) | analyze) | tft_beam.WriteTransformFn(str(folder / "graph"))
    metadata_io.write_metadata(tft.DatasetMetadata(schema), str(folder / "graph/metadata"))
    output = tft.TFTransformOutput(str(folder / "graph"))
    layer = output.transform_features_layer()
    for side, examples in serialized.items():
        transformed = layer(tf.io.parse_example(examples, output.raw_feature_spec()))
        write(folder / f"transformed/Split-{side}/examples.gz", _as_examples(transformed))
    return FnArgs(
        train_files=[str(folder / "transformed/Split-train/*")],
        eval_files=[str(folder / "transformed/Split-eval/*")],
        train_steps=config.training.steps,
        schema_path=str(config.folder / "schema.pbtxt"),
        transform_graph_path=str(folder / "graph"),
        serving_model_dir=str(folder / "model"),
        custom_config={
            "model": config.name,
            "batch_size": config.training.batch_size,
            "hyperparameters": config.training.hyperparameters,
        },
    )


def night(name: str, as_of: str, folder: Path) -> FnArgs:
    config = load_config(name)
    return transform(config, split(rows_of(config, as_of), config.data.eval_percent), folder)


def write(path: Path, records: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as writer:
        for record in records:
            writer.write(record)


def _as_examples(columns: dict[str, tf.Tensor]) -> list[bytes]:
    """Dense columns [rows, width] as a serialized tf.Example a row."""
    arrays = {name: column.numpy() for name, column in columns.items()}
    kinds = {
        name: (tf.train.Int64List, "int64_list") if array.dtype.kind == "i" else (tf.train.FloatList, "float_list")
        for name, array in arrays.items()
    }
    records = []
    for row in range(len(next(iter(arrays.values())))):
        example = tf.train.Example()
        for name, array in arrays.items():
            kind, field = kinds[name]
            getattr(example.features.feature[name], field).CopyFrom(kind(value=array[row]))
        records.append(example.SerializeToString())
    return records


def _time(text: str, form: str) -> dt.datetime:
    if form == "epoch_s":
        return dt.datetime.fromtimestamp(int(text), dt.UTC).replace(tzinfo=None)
    return dt.datetime.strptime(text, form)
