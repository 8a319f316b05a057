"""Images, vectors, lists and long text from the source to a model server that is asked over REST and gRPC."""

import base64
import json
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_transform as tft
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.examples.encoding import Encoding, as_lists, row_groups
from nightly.examples.tfexample import serialized
from nightly.examples.tfrecord import framed
from nightly.io.tables import shown
from nightly.records.golden import GOLDEN, Golden
from nightly.records.label_config import BinaryLabel
from nightly.schemas.features import sized_features
from nightly.statistics.measure import statistics_of
from nightly.training.export import export
from nightly.training.inputs import keras_inputs, training_batches
from nightly.training.preprocessing import images, padded
from nightly.training.raw_features import MISSING_INT
from nightly.training.samples import WARM_UP, add_samples
from nightly.training.transforming import LABEL, dense, label_of
from nightly.transform.engine import Transformer, write_transform_graph
from nightly_client import Client
from tests.nightly.snapshots.conftest import Bench
from tests.support.digits import SCHEMA, digits
from tests.support.servers import Server

pytestmark = pytest.mark.slow

INPUTS = ["photo", "rows", "bright", "strokes", "story"]
LONGEST = 16


def preprocessing_fn(inputs):
    strokes = tft.compute_and_apply_vocabulary(inputs["strokes"], num_oov_buckets=1, vocab_filename="strokes")
    return {
        "photo": images(inputs["photo"], 8, 8, channels=1),
        "rows": inputs["rows"],
        "bright": padded(inputs["bright"], LONGEST, -1) + 1,
        "strokes": padded(tf.SparseTensor(strokes.indices, strokes.values + 1, strokes.dense_shape), 8, 0),
        "story": tf.cast(tf.strings.length(dense(inputs["story"], "")), tf.float32) / 100,
        LABEL: label_of(inputs["even"], ["1"]),
    }


def network(output):
    inputs = keras_inputs(output)
    parts = [
        keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu")(inputs["photo"])),
        inputs["rows"],
        keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(65, 4)(inputs["bright"])),
        keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(40, 4)(inputs["strokes"])),
        inputs["story"],
    ]
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(keras.layers.Concatenate()(parts)))
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """One night of digits: its snapshot, statistics, examples and exported model."""
    folder = tmp_path_factory.mktemp("digits")
    bench = Bench(folder)
    bench.schema.write_text(SCHEMA)
    keras.utils.set_random_seed(1)
    missing = [{**digits()[-1], "id": 9999, "bright": None, "story": None}]  # what may be missing
    pq.write_table(pa.Table.from_pylist([*missing, *digits()[:-1]]), bench.bodies / "digits.parquet")
    ref = bench.ingest(id_columns=["id"], label=BinaryLabel(column="even", positive=["1"]))
    assert bench.rejected() == []

    encoding = Encoding([*INPUTS, "even"], ["id"], "even", 20)
    parts = [encoding.sides(batch) for group in row_groups(Path(ref.path)) for batch in group.batches()]
    for split in ("train", "eval"):
        path = folder / f"examples/Split-{split}/data_tfrecord-00000-of-00001"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"".join(bytes(framed(serialized(part[split]))) for part in parts))

    schema = text_format.Parse(SCHEMA, schema_pb2.Schema())
    del schema.feature[0]  # the id is left out of the examples
    statistics = statistics_of((as_lists(part["train"]) for part in parts), sized_features(schema))

    graph, transformed = folder / "graph", folder / "transformed"
    write_transform_graph(
        preprocessing_fn, str(folder / "examples/Split-train"), tft.DatasetMetadata(schema), graph
    )  # fmt: skip
    rows = {
        split: Transformer(graph).write(str(folder / f"examples/Split-{split}"), transformed / split / "part")
        for split in ("train", "eval")
    }
    output = tft.TFTransformOutput(str(graph))
    model = network(output)
    batches = training_batches([str(transformed / "train/*")], output, 64, seed=1)
    trained = model.fit(batches.take(60), verbose=0)
    version = folder / "model/1"
    export(model, output, schema, str(version))
    add_samples(str(version), str(folder / "examples/Split-eval/*"), "digits")
    return SimpleNamespace(
        folder=folder,
        schema=schema,
        statistics=statistics,
        rows=rows,
        accuracy=trained.history["accuracy"][-1],
        version=version,
        golden=Golden.load(version / GOLDEN),
    )


@pytest.fixture(scope="module")
def server(night):
    running = Server("--model_name=digits", f"--model_base_path={night.folder / 'model'}").wait_ready()
    yield running
    running.stop()


def test_the_data_match_their_schema(night):
    assert not tfdv.validate_statistics(night.statistics, night.schema, environment="TRAINING").anomaly_info


def test_the_network_learns_from_every_kind_of_feature(night):
    assert sum(night.rows.values()) == 600
    assert night.accuracy > 0.75  # half of the digits are even


def test_golden_examples_hold_every_feature_as_json(night):
    assert json.loads((night.version / GOLDEN).read_text())
    features = night.golden.examples[1].features
    assert set(features) == set(INPUTS)
    assert base64.b64decode(features["photo"]["b64"]).startswith(b"\x89PNG")
    assert len(features["rows"]) == 8
    assert isinstance(features["bright"], list)
    assert features["story"].startswith(("thin at", "thick at"))
    assert shown(features["photo"]).endswith(" bytes")


def answers(response):
    return [row[0] if isinstance(row, list) else row for row in response]


def padded_instances(golden):
    """Golden features as instances of `raw_features`, whose lists are filled up with what means missing."""
    rows = [dict(example.features) for example in golden.examples]
    for name, missing in (("bright", MISSING_INT), ("strokes", "")):
        longest = max(len(row[name] or []) for row in rows)
        for row in rows:
            row[name] = [*(row[name] or []), *[missing] * (longest - len(row[name] or []))]
    return [{**row, "story": row["story"] or ""} for row in rows]


def test_rest_takes_bytes_as_b64_and_lists_that_are_filled_up(night, server):
    expected = [example.outputs["probability"][0] for example in night.golden.examples]
    body = {"signature_name": "raw_features", "instances": padded_instances(night.golden)}
    request = urllib.request.Request(f"{server.url}/v1/models/digits:predict", json.dumps(body).encode())
    with urllib.request.urlopen(request) as response:
        assert answers(json.load(response)["predictions"]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_the_client_is_answered_as_offline_by_examples_and_by_features(night, server, transport):
    expected = [example.outputs["probability"][0] for example in night.golden.examples]
    with Client(server.url if transport == "rest" else f"grpc://{server.grpc_address}") as client:
        records = [base64.b64decode(example.example_base64) for example in night.golden.examples]
        assert answers(client.predict("digits", records).values) == pytest.approx(expected, abs=1e-5)
        rows = [
            {**row, "photo": base64.b64decode(row["photo"]["b64"])} for row in padded_instances(night.golden)
        ]  # fmt: skip
        actual = client.predict("digits", rows, signature="raw_features").values
        assert answers(actual) == pytest.approx(expected, abs=1e-5)
        plain = [{k: v for k, v in row.items() if v not in ("", [])} for row in rows]
        for row in plain:
            row["bright"] = [value for value in row["bright"] if value != MISSING_INT]
            row["strokes"] = [value for value in row["strokes"] if value]
        regressed = client.regress("digits", plain, signature="regress").values
        assert answers(regressed) == pytest.approx(expected, abs=1e-5)


def test_warm_up_requests_have_the_shapes_of_the_signature(night):
    from tensorflow_serving.apis import prediction_log_pb2

    logs = [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(str(night.version / WARM_UP)).as_numpy_iterator()
    ]
    raw = [
        log.predict_log.request for log in logs if log.predict_log.request.model_spec.signature_name == "raw_features"
    ]
    (_, batch) = raw
    shapes = {name: tf.make_ndarray(tensor).shape for name, tensor in batch.inputs.items()}
    assert shapes["rows"] == (16, 8)
    assert shapes["photo"] == (16,)
    assert len(shapes["bright"]) == 2


def test_a_list_is_the_same_whatever_it_is_filled_up_with_and_where(night):
    raw = tf.saved_model.load(str(night.version)).signatures["raw_features"]
    row = padded_instances(night.golden)[1]

    def ask(bright, strokes):
        return raw(
            photo=tf.constant([base64.b64decode(row["photo"]["b64"])]),
            rows=tf.constant([row["rows"]], tf.float32),
            bright=tf.constant([bright], tf.int64),
            strokes=tf.constant([strokes]),
            story=tf.constant([row["story"]]),
        )["probability"].numpy()[0, 0]

    expected = ask([3, 5], ["thin at 1", "thick at 2"])
    assert ask([MISSING_INT, 3, MISSING_INT, 5], ["", "thin at 1", "thick at 2", ""]) == pytest.approx(
        expected, abs=1e-6
    )
    assert ask([5, 3, 3], ["thin at 1"]) != pytest.approx(expected, abs=1e-6)


def test_a_vector_must_be_there(night):
    served = tf.saved_model.load(str(night.version)).signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"rows.*is required but could not be found"):
        served(examples=tf.constant([b""]))


def test_missing_images_are_black_and_large_ones_are_resized(tmp_path):
    large = np.full((32, 16, 3), 255, np.uint8)
    jpeg = tf.io.encode_jpeg(large, quality=100).numpy()
    column = tf.SparseTensor([[1, 0]], [jpeg], [3, 1])
    decoded = images(column, 8, 8).numpy()
    assert decoded.shape == (3, 8, 8, 3)
    assert decoded[[0, 2]].max() == 0
    assert decoded[1].min() > 0.98
