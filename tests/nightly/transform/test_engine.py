"""Transform in this process gives what TFX's Transform gives: the same vocabularies, transform and examples."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.transform.executor import Executor
from tfx.types import standard_artifacts
from tfx_bsl.coders import example_coder

from nightly.tfx.components.transform import InProcessTransform
from nightly.training.inputs import training_batches
from nightly.training.transforming import dense, preprocessing_fn
from nightly.transform import engine
from nightly.transform.analysis import PreprocessingError, UnknownAnalyzer
from tests.support.data import TAXI

ROOT = Path(__file__).parents[3]
SHARED = f"{preprocessing_fn.__module__}.{preprocessing_fn.__name__}"
HERE = "tests.nightly.transform.test_engine"
KINDS = {schema_pb2.INT: pa.int64(), schema_pb2.FLOAT: pa.float32(), schema_pb2.BYTES: pa.binary()}


def _around_zero(latitude):
    return latitude - 41.9


def many_analyzers(inputs):
    """The taxi model's own transform, and each kind of analyzer, in up to three phases."""
    fare, miles = dense(inputs["fare"], 0.0), dense(inputs["trip_miles"], 0.0)
    company, payment = dense(inputs["company"], ""), dense(inputs["payment_type"], "")
    hour, tipped = dense(inputs["trip_start_hour"], 0), dense(inputs["big_tipper"], 0)
    both = tf.concat([fare, miles], axis=1)

    def same(value):  # an analyzer's result as a column
        value = tf.reshape(tf.cast(value, tf.float32), [1, -1])
        return tf.tile(value, [tf.shape(fare)[0], 1])

    def applied(vocabulary, words=company):
        return tft.apply_vocabulary(words, vocabulary, num_oov_buckets=1)

    above = fare - tft.min(fare)
    share = above / tft.max(above)  # the second phase
    hours, counts = tft.count_per_key(tf.strings.as_string(hour[:, 0]))
    figures = [
        *(tft.mean(fare), tft.var(fare), tft.size(fare), tft.sum(hour), tft.min(fare), tft.max(fare)),
        *(tft.quantiles(fare, 4, 0.01), tft.covariance(both, tf.float32), tft.histogram(fare, boundaries=5)[0]),
        tf.cast(tf.size(hours), tf.int64) + tf.reduce_max(counts),
    ]
    return preprocessing_fn(inputs, {"model": "taxi"}) | {
        "z": tft.scale_to_z_score(fare),
        "z_elementwise": tft.scale_to_z_score(both, elementwise=True),
        # Around 0: of 41.9 +- 0.05 TFT's float32 variance depends on Beam's batch sizes, which depend on its timing.
        "z_sparse": dense(tft.scale_to_z_score(tf.sparse.map_values(_around_zero, inputs["pickup_latitude"])), 0.0),
        "min_max": tft.scale_by_min_max(miles, -1, 1),
        "z_per_key": tft.scale_to_z_score_per_key(fare[:, 0], payment[:, 0]),
        "min_max_per_key": tft.scale_by_min_max_per_key(
            fare[:, 0], payment[:, 0], key_vocabulary_filename="min_max_keys"
        ),
        "bucket": tft.bucketize(fare, 7),
        "bucket_per_key": tft.bucketize_per_key(fare[:, 0], payment[:, 0], 4),
        "word": tft.compute_and_apply_vocabulary(company, top_k=20, frequency_threshold=3, num_oov_buckets=3),
        "number": tft.compute_and_apply_vocabulary(hour, vocab_filename="hours", default_value=-7, name="hours"),
        "shuffled": applied(tft.vocabulary(company, fingerprint_shuffle=True, vocab_filename="shuffled")),
        "weighted": applied(tft.vocabulary(company, weights=tf.round(fare), vocab_filename="weighted")),
        "informed": applied(tft.vocabulary(company, labels=tipped, top_k=15, vocab_filename="informed")),
        "zipped": applied(tft.vocabulary(payment, file_format="tfrecord_gzip", vocab_filename="zipped"), payment),
        "reserved": applied(
            tft.vocabulary(payment, reserved_tokens=["Cash", "new"], vocab_filename="reserved"), payment
        ),
        "covered": applied(
            tft.vocabulary(company, top_k=5, coverage_top_k=1, key_fn=first_letter, vocab_filename="covered")
        ),
        "second_phase": tft.scale_to_z_score(share),
        "third_phase": tft.compute_and_apply_vocabulary(
            tf.strings.as_string(tft.bucketize(share, 5)) + payment, vocab_filename="third_phase"
        ),
        "figures": tf.ensure_shape(tf.concat(list(map(same, figures)), axis=1), [None, 18]),
    }


def first_letter(word):
    return word[:1]


def on_beam_only(inputs):
    words = tft.experimental.approximate_vocabulary(dense(inputs["company"], ""), top_k=5)
    return {"word": tft.apply_vocabulary(dense(inputs["company"], ""), words)}


def taxi_rows(number):
    return pd.read_csv(TAXI).tail(number).replace({np.nan: None}).to_dict("records")


def complaint_rows(number):
    """Rows like the complaints: some common values, many rare ones, missing ones, and texts of several words."""
    random = np.random.default_rng(0)
    words = np.array(["billing", "Late", "fee,", "account", "opening", "CREDIT", "report.", "über", "loan", "(other)"])

    def one(values, missing=0.1):
        return None if random.random() < missing else str(random.choice(values))

    return [
        {
            "product": one(["Mortgage", "Credit card", "Debt collection"]),
            "company": one(["Bank One", "Bank Two", *(f"Bank {n}" for n in range(300))]),
            "state": one(["CA", "NY", "TX", "FL"]),
            "submitted_via": one(["Web", "Phone"]),
            "timely_response": one(["Yes", "No"]),
            "issue": None if random.random() < 0.05 else " ".join(random.choice(words, random.integers(1, 90))),
            "consumer_disputed": one(["Yes", "No"], missing=0),
        }
        for _ in range(number)
    ]


def artifact(kind, uri, splits=None):
    made = kind()
    made.uri = str(uri)
    if splits:
        made.split_names = json.dumps(splits)
    uri.mkdir(parents=True, exist_ok=True)
    return made


def inputs_of(model, rows, folder):
    """The artifacts that Transform reads: two thirds of the rows to train on, a third to judge by."""
    text = (ROOT / f"include/models/{model}/schema.pbtxt").read_text()
    schema = artifact(standard_artifacts.Schema, folder / "schema")
    (folder / "schema/schema.pbtxt").write_text(text)
    examples = artifact(standard_artifacts.Examples, folder / "examples", ["train", "eval"])
    features = text_format.Parse(text, schema_pb2.Schema()).feature
    for split, part in (("train", rows[: len(rows) * 2 // 3]), ("eval", rows[len(rows) * 2 // 3 :])):
        columns = {
            feature.name: pa.array(
                [_value(row.get(feature.name), feature.type) for row in part], pa.list_(KINDS[feature.type])
            )
            for feature in features
        }
        path = folder / f"examples/Split-{split}/data_tfrecord-00000-of-00001"
        path.parent.mkdir()
        with tf.io.TFRecordWriter(str(path)) as writer:
            for example in example_coder.RecordBatchToExamplesEncoder().encode(pa.RecordBatch.from_pydict(columns)):
                writer.write(example)
    return {"examples": [examples], "schema": [schema]}


def _value(value, kind):
    if value is None:
        return None
    return [{schema_pb2.INT: int, schema_pb2.FLOAT: float, schema_pb2.BYTES: lambda v: str(v).encode()}[kind](value)]


def run(executor, inputs, folder, **parameters):
    outputs = {
        "transform_graph": [artifact(standard_artifacts.TransformGraph, folder / "graph")],
        "transformed_examples": [artifact(standard_artifacts.Examples, folder / "examples")],
    }
    executor.Do(inputs, outputs, parameters)
    return folder


def in_process(inputs, folder, preprocessing_fn, model):
    executor = InProcessTransform.EXECUTOR_SPEC.executor_class()
    config = json.dumps({"model": model})
    return run(executor, inputs, folder, preprocessing_fn=preprocessing_fn, custom_config=config)


def transformed(folder, split):
    """Every transformed row: {name: [rows, …]}."""
    (path,) = (folder / f"examples/Split-{split}").iterdir()
    spec = tft.TFTransformOutput(str(folder / "graph")).transformed_feature_spec()
    records = list(tf.data.TFRecordDataset(str(path), "GZIP" if path.suffix == ".gz" else "").as_numpy_iterator())
    return {name: column.numpy() for name, column in tf.io.parse_example(records, spec).items()}


@pytest.fixture(scope="module", params=["taxi", "complaints"])
def outputs(request, tmp_path_factory):
    """What this process and TFX make of the same examples: two folders."""
    folder = tmp_path_factory.mktemp(request.param)
    rows = taxi_rows(1500) if request.param == "taxi" else complaint_rows(1000)
    name = f"{HERE}.many_analyzers" if request.param == "taxi" else SHARED
    inputs = inputs_of(request.param, rows, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "BATCH_ROWS", 300)  # several batches, the last one smaller
        ours = in_process(inputs, folder / "ours", name, request.param)
    config = json.dumps({"model": request.param})
    theirs = run(
        Executor(), inputs, folder / "theirs", preprocessing_fn=name, custom_config=config, disable_statistics=1
    )
    return ours, theirs


@pytest.mark.slow
def test_vocabularies_and_schemas_are_those_of_tfx_transform(outputs):
    ours, theirs = outputs
    one, other = (tft.TFTransformOutput(str(folder / "graph")) for folder in (ours, theirs))
    assert one.transformed_metadata.schema == other.transformed_metadata.schema
    assert one.raw_metadata.schema == other.raw_metadata.schema
    assets = {
        folder: {path.name: path.read_bytes() for path in (folder / "graph/transform_fn/assets").iterdir()}
        for folder in (ours, theirs)
    }
    assert assets[ours].keys() == assets[theirs].keys()
    for name, content in assets[ours].items():
        if name.endswith(".gz"):
            content, expected = (_records(folder / f"graph/transform_fn/assets/{name}") for folder in (ours, theirs))
        else:
            expected = assets[theirs][name]
        assert content == expected, name


@pytest.mark.parametrize("split", ["train", "eval"])
def test_rows_are_those_of_tfx_transform(outputs, split):
    ours, theirs = outputs
    mine, its = transformed(ours, split), transformed(theirs, split)
    assert mine.keys() == its.keys()
    for name, column in mine.items():
        if column.dtype.kind == "f":
            np.testing.assert_allclose(column, its[name], rtol=1e-5, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(column, its[name], err_msg=name)


def _records(path):
    return list(tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator())


def test_what_it_writes_is_what_training_reads(outputs):
    folder, _ = outputs
    output = tft.TFTransformOutput(str(folder / "graph"))
    features, labels = next(iter(training_batches([str(folder / "examples/Split-train/*")], output, 64, seed=0)))
    assert labels.shape == (64, 1)
    assert len(features["company"]) == 64
    assert output.vocabulary_size_by_name("company") > 1
    names = sorted(path.name for path in (folder / "graph").iterdir())
    assert names == ["metadata", "transform_fn", "transformed_metadata"]


def test_an_analyzer_that_is_a_beam_transform_is_named_with_the_way_out(tmp_path):
    inputs = inputs_of("taxi", taxi_rows(60), tmp_path)
    with pytest.raises(UnknownAnalyzer, match=r'approximate_vocabulary.*engine = "beam" under \[pipeline\]'):
        in_process(inputs, tmp_path / "ours", f"{HERE}.on_beam_only", "taxi")


def without_outputs(inputs):
    return {}


def test_a_preprocessing_fn_without_outputs_is_told_what_it_must_return(tmp_path):
    inputs = inputs_of("taxi", taxi_rows(60), tmp_path)
    with pytest.raises(PreprocessingError, match="must return a dictionary of tensors by name"):
        in_process(inputs, tmp_path / "ours", f"{HERE}.without_outputs", "taxi")
