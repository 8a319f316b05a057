"""Lists, vectors, images and long text of a data set are recognized, measured, converted and described by a schema."""

import json

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.data import convert, statistics
from nightly.data.errors import DataError
from nightly.data.schemas import infer_schema, validate
from nightly.schemas.curated import SchemaError, parse_schema
from nightly.schemas.features import column_type
from nightly_client import example
from tests.support.digits import SCHEMA, digits
from tests.support.statistics import assert_same, by_name

LONG = "It was thin at first, then thick, and at the end there was ink on every row of the paper. " * 2


@pytest.fixture(scope="module")
def rows():
    return [{**row, "story": f"{LONG}{row['story']}"} for row in digits()]


@pytest.fixture(scope="module")
def parquet(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits.parquet"
    table = pa.Table.from_pylist(rows)
    fixed = table["rows"].cast(pa.list_(pa.float32(), 8))
    pq.write_table(table.set_column(table.schema.names.index("rows"), "rows", fixed), path)
    return path


def test_inference_proposes_what_each_feature_is(parquet):
    measured = statistics(parquet)
    schema = infer_schema(measured)
    features = {feature.name: feature for feature in schema.feature}
    assert features["photo"].HasField("image_domain")
    assert [dim.size for dim in features["rows"].shape.dim] == [8]
    assert features["rows"].presence.min_fraction == 1
    assert (features["bright"].value_count.min, features["bright"].value_count.max) == (1, 0)
    assert features["story"].HasField("natural_language_domain")
    assert not features["strokes"].HasField("natural_language_domain")
    types = {name: column_type(feature) for name, feature in features.items()}
    assert types == {
        "id": "int64",
        "day": "string",
        "photo": "binary",
        "rows": "list<float>",
        "bright": "list<int64>",
        "strokes": "list<string>",
        "story": "string",
        "even": "int64",
    }
    assert not validate(measured, schema).anomaly_info


def test_bytes_that_are_no_image_are_proposed_as_bytes(rows, tmp_path):
    pq.write_table(pa.Table.from_pylist([{"sound": b"\xff" + row["photo"]} for row in rows]), tmp_path / "a.parquet")
    (feature,) = infer_schema(statistics(tmp_path / "a.parquet")).feature
    assert list(feature.annotation.tag) == ["bytes"]
    assert column_type(feature) == "binary"


def test_a_vector_that_some_rows_lack_is_a_list_of_one_length(rows, tmp_path):
    some = [{"rows": row["rows"] if row["id"] else None} for row in rows]
    pq.write_table(pa.Table.from_pylist(some), tmp_path / "a.parquet")
    (feature,) = infer_schema(statistics(tmp_path / "a.parquet")).feature
    assert (feature.value_count.min, feature.value_count.max) == (8, 8)
    assert not feature.HasField("shape")


def test_lists_in_csv_are_recognized_as_json_and_measured_as_those_of_parquet(rows, parquet, tmp_path):
    texts = {
        name: [json.dumps(row[name]) if row[name] else None for row in rows] for name in ("rows", "bright", "strokes")
    }
    pyarrow.csv.write_csv(pa.table({**texts, "even": [row["even"] for row in rows]}), tmp_path / "a.csv")
    ours, theirs = statistics(tmp_path / "a.csv"), statistics(parquet)
    kept = [feature for feature in theirs.datasets[0].features if feature.path.step[0] in {*texts, "even"}]
    del theirs.datasets[0].features[:]
    theirs.datasets[0].features.extend(kept)
    assert_same(ours, theirs)
    declared = text_format.Parse(SCHEMA, schema_pb2.Schema())
    assert_same(statistics(tmp_path / "a.csv", schema=declared), theirs)


@pytest.mark.slow
def test_lists_and_vectors_of_real_trips_are_measured_as_tfdv_measures_them(trips, tmp_path):
    def listed(*columns):
        rows = trips[list(columns)].astype(object).where(trips[list(columns)].notna(), None).to_numpy().tolist()
        return [[value for value in row if value is not None] or None for row in rows]

    places = ("pickup_latitude", "pickup_longitude", "dropoff_latitude", "dropoff_longitude")
    columns = {
        "areas": pa.array(listed("pickup_community_area", "dropoff_community_area")).cast(pa.list_(pa.int64())),
        "places": pa.array([row if row and len(row) == 4 else None for row in listed(*places)]),
        "words": pa.array(listed("payment_type", "company")),
        "fare": pa.array(trips["fare"], from_pandas=True),
    }
    pq.write_table(pa.table(columns), tmp_path / "trips.parquet")
    convert(tmp_path / "trips.parquet", tmp_path / "out")
    theirs = tfdv.generate_statistics_from_tfrecord(str(tmp_path / "out/data_tfrecord*"))
    ours = statistics(tmp_path / "trips.parquet")
    assert_same(ours, theirs, quantiles=False)
    features = {feature.name: feature for feature in infer_schema(ours).feature}
    assert (features["places"].value_count.min, features["places"].value_count.max) == (4, 4)
    assert column_type(features["areas"]) == "list<int64>"
    assert column_type(features["words"]) == "list<string>"


def test_a_text_that_is_no_list_where_the_schema_has_one_is_named(tmp_path):
    (tmp_path / "a.csv").write_text('bright,even\n"[1, 2]",1\n3;4,0\n')
    with pytest.raises(DataError, match=r"no list in bright.*\n.*a.csv:3, bright: '3;4'"):
        statistics(tmp_path / "a.csv", schema=text_format.Parse(SCHEMA, schema_pb2.Schema()))


def test_images_and_lists_are_converted_to_the_examples_that_a_client_would_write(rows, parquet, tmp_path):
    convert(parquet, tmp_path / "out")
    (file,) = (tmp_path / "out").iterdir()
    records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    written = [dict(tf.train.Example.FromString(record).features.feature) for record in records]
    by_id = {features["id"].int64_list.value[0]: features for features in written}
    for number in (0, 1, 599):
        sent = tf.train.Example.FromString(example(rows[number]).SerializeToString()).features.feature
        assert {k: v for k, v in by_id[number].items() if v.WhichOneof("kind")} == dict(sent)
    ours, theirs = (by_name(statistics(data))["photo"].bytes_stats for data in (tmp_path / "out", parquet))
    assert ours == theirs


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        (
            "shape { dim { size: 8 } }",
            "rows: a feature with a shape is in every row: add presence { min_fraction",
        ),
        ("shape { dim {} } presence { min_fraction: 1 }", "rows: each dim of its shape needs a size"),
        ("value_counts { value_count { min: 1 } }", "rows: value_counts, lists in lists, cannot be read"),
        ("image_domain {}", "rows: image_domain is for BYTES, and rows is FLOAT"),
    ],
)
def test_a_schema_that_cannot_work_says_what_to_write(feature, said):
    with pytest.raises(SchemaError, match=said.replace("{", r"\{").replace("}", r"\}")):
        parse_schema(f'feature {{ name: "rows" type: FLOAT {feature} }}', where="schema.pbtxt")
