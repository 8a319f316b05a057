"""The same rows are the same statistics, whatever they are written as; and what cannot be read is said."""

import datetime as dt
import decimal
import gzip

import fastavro
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from nightly.data import convert, load_statistics, save_statistics, statistics
from nightly.data.errors import DataError
from nightly.data.reading import BATCH_ROWS, open_data
from nightly.io.paths import Paths
from nightly.snapshots.builder import SnapshotBuilder
from nightly.snapshots.store import SnapshotStore
from tests.support.data import TAXI
from tests.support.statistics import assert_same, by_name, examples, write

INT, FLOAT, STRING = (getattr(statistics_pb2.FeatureNameStatistics, name) for name in ("INT", "FLOAT", "STRING"))


def schema(**types):
    found = schema_pb2.Schema()
    for name, kind in types.items():
        found.feature.add(name=name, type=getattr(schema_pb2, kind))
    return found


@pytest.mark.slow
def test_csv_is_measured_as_tfdv_measures_it():
    assert_same(statistics(TAXI), tfdv.generate_statistics_from_csv(str(TAXI)))


@pytest.mark.slow
def test_csv_with_quotes_commas_and_blanks_is_measured_as_tfdv_measures_it(complaints):
    assert_same(statistics(complaints), tfdv.generate_statistics_from_csv(str(complaints)))


@pytest.mark.slow
def test_tfrecord_is_measured_as_tfdv_measures_it(tmp_path):
    convert(TAXI, tmp_path / "out", shards=2, gzip=True)
    ours = statistics(tmp_path / "out")
    assert_same(ours, tfdv.generate_statistics_from_tfrecord(str(tmp_path / "out/data_tfrecord*")), quantiles=False)
    assert_same(ours, statistics(TAXI), quantiles=False)


def test_parquet_gzip_and_several_files_are_measured_as_the_one_csv(trips, tmp_path):
    expected = statistics(TAXI)
    pq.write_table(pa.table(trips.convert_dtypes()), write(tmp_path / "one/trips.parquet", ""))
    assert_same(statistics(tmp_path / "one/trips.parquet"), expected)
    with gzip.open(tmp_path / "trips.csv.gz", "wb") as file:
        file.write(TAXI.read_bytes())
    assert_same(statistics(tmp_path / "trips.csv.gz"), expected)
    header, *lines = TAXI.read_text().splitlines(keepends=True)
    write(tmp_path / "parts/a.csv", header + "".join(lines[:9000]))
    write(tmp_path / "parts/b.csv", header + "".join(lines[9000:]))
    write(tmp_path / "parts/_SUCCESS", "")
    assert_same(statistics(tmp_path / "parts"), expected, quantiles=False)
    assert_same(statistics(f"{tmp_path}/parts/?.csv"), expected, quantiles=False)


def test_json_lines_and_avro_are_measured_as_the_same_csv(trips, tmp_path):
    rows = trips.head(500).convert_dtypes()
    rows.to_csv(tmp_path / "rows.csv", index=False)
    rows.to_json(tmp_path / "rows.jsonl", orient="records", lines=True, double_precision=15)
    assert_same(statistics(tmp_path / "rows.jsonl"), statistics(tmp_path / "rows.csv"))
    fields = [{"name": name, "type": ["null", "string"]} for name in rows]
    records = [{k: None if pd.isna(v) else str(v) for k, v in row.items()} for row in rows.to_dict("records")]
    with (tmp_path / "rows.avro").open("wb") as file:
        fastavro.writer(file, {"type": "record", "name": "trip", "fields": fields}, records, codec="deflate")
    assert_same(statistics(tmp_path / "rows.avro"), statistics(tmp_path / "rows.csv"))


def test_a_snapshot_is_found_by_its_id_its_beginning_or_as_the_latest(trips, tmp_path):
    store = SnapshotStore(Paths.from_environment().snapshots, "taxi")
    ids = []
    for rows in (100, 300):
        times = [dt.datetime(2016, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=n) for n in range(rows)]
        columns = {"day": "timestamp", "fare": "float", "company": "string"}
        with SnapshotBuilder(store, columns, time_column="day", id_columns=[]) as builder:
            some = trips.head(rows)[["fare", "company"]].assign(day=times)[["day", "fare", "company"]]
            builder.add(pa.RecordBatch.from_pandas(some, builder.schema, preserve_index=False))
            manifest, _ = builder.finish(
                label="company",
                window_start=times[0],
                window_end=times[-1],
                source=[],
                source_sha256=[],
                code_version="abc",
            )
        ids.append(manifest.snapshot_id)
    for place in (f"snapshot:taxi/{ids[0]}", f"snapshot:taxi/{ids[0][:10]}", store.path(ids[0])):
        assert statistics(place).datasets[0].num_examples == 100
    latest = statistics("snapshot:taxi/latest")
    assert latest.datasets[0].num_examples == 300
    assert by_name(latest)["day"].num_stats.min == dt.datetime(2016, 1, 1, tzinfo=dt.UTC).timestamp()
    for wrong, said in (("tax/latest", "did you mean 'taxi'"), ("taxi/zzz", "no snapshot 'zzz'"), ("taxi", "latest")):
        with pytest.raises(DataError, match=said):
            statistics(f"snapshot:{wrong}")


@pytest.mark.parametrize(
    ("values", "kind", "missing"),
    [
        (["1", "-2", "007"], INT, 0),
        (["1", "", "3"], INT, 1),
        (["1", "2.5"], FLOAT, 0),
        (["1e3", "nan", ".5"], FLOAT, 1),
        (["3.0", "", "4.0"], FLOAT, 1),
        (["1", "x"], STRING, 0),
        (["1", "2.5", "x"], STRING, 0),
        (["12345678901234567890", "1"], STRING, 0),
        (["1_000"], STRING, 0),
    ],
)
def test_types_of_a_csv_column(tmp_path, values, kind, missing):
    path = write(tmp_path / "a.csv", "a,b\n" + "".join(f"{value},1\n" for value in values))
    feature = by_name(statistics(path))["a"]
    common = getattr(feature, feature.WhichOneof("stats")).common_stats
    assert (feature.type, len(values) - common.num_non_missing) == (kind, missing)


def test_a_schema_widens_a_type_and_never_hides_that_values_do_not_fit(tmp_path):
    path = write(tmp_path / "a.csv", "zip,fare,seats,age\n02139,5,3.0,old\n10001,7,,12\n")
    found = by_name(statistics(path, schema=schema(zip="BYTES", fare="FLOAT", seats="INT", age="INT")))
    assert [found[name].type for name in ("zip", "fare", "seats", "age")] == [STRING, FLOAT, INT, STRING]
    assert {value.value for value in found["zip"].string_stats.top_values} == {"02139", "10001"}


def test_files_that_differ_meet_in_the_wider_type_and_lack_what_they_lack(tmp_path):
    write(tmp_path / "a.csv", "n,only\n1,x\n2,y\n")
    write(tmp_path / "b.csv", "n\n2.5\n")
    found = by_name(statistics(tmp_path))
    assert found["n"].type == FLOAT
    assert found["n"].num_stats.common_stats.num_non_missing == 3
    assert found["only"].string_stats.common_stats.num_non_missing == 2
    pq.write_table(pa.table({"n": [1, 2]}), write(tmp_path / "p/a.parquet", ""))
    pq.write_table(pa.table({"n": [0.5]}), write(tmp_path / "p/b.parquet", ""))
    assert by_name(statistics(tmp_path / "p"))["n"].num_stats.max == 2


def test_parquet_columns_become_what_an_example_holds(tmp_path):
    table = pa.table(
        {
            "price": pa.array([decimal.Decimal("1.50"), None]),
            "day": pa.array([dt.date(2016, 1, 2), dt.date(2016, 1, 3)]),
            "time": pa.array([dt.datetime(2016, 1, 2), None], pa.timestamp("ms")),
            "kind": pa.array(["a", "b"]).dictionary_encode(),
            "flag": [True, False],
            "words": [["a", "b", "c"], []],
            "numbers": pa.array([[0.5], None], pa.list_(pa.float64())),
            "nothing": pa.nulls(2),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    convert(tmp_path / "a.parquet", tmp_path / "out")
    first, second = (example.features.feature for example in map(_parse, examples(tmp_path / "out")))
    assert first["price"].float_list.value == [1.5]
    assert first["day"].bytes_list.value == [b"2016-01-02"]
    assert first["time"].int64_list.value == [1451692800]
    assert (first["kind"].bytes_list.value, first["flag"].int64_list.value) == ([b"a"], [1])
    assert (first["words"].bytes_list.value, first["numbers"].float_list.value) == ([b"a", b"b", b"c"], [0.5])
    assert not any(second[name].WhichOneof("kind") for name in ("price", "time", "numbers", "nothing"))
    assert by_name(statistics(tmp_path / "a.parquet"))["words"].string_stats.common_stats.max_num_values == 3


def _parse(serialized):
    return tf.train.Example.FromString(serialized)


def test_a_model_s_data_are_read_as_its_nights_read_them(complaints):
    found = by_name(statistics(complaints, model="complaints"))
    assert {"company", "consumer_disputed", "product"} <= set(found)
    assert not {"date_received", "Company"} & set(found)
    assert open_data(complaints, model="complaints").max_rejected_share == 0.01
    assert statistics(complaints, model="complaints").datasets[0].num_examples == 3186 - 57  # blank labels


@pytest.mark.slow
def test_a_feature_that_many_rows_lack_keeps_its_type(tmp_path):
    """TFRecord says nothing of the type of what a whole batch lacks."""
    values = ["7" if n in (3, 90_000) else "" for n in range(100_000)]
    path = write(tmp_path / "a.csv", "n,m\n" + "".join(f"{value},1\n" for value in values))
    convert(path, tmp_path / "out")
    for place in (path, tmp_path / "out"):
        found = by_name(statistics(place))["n"]
        assert (found.type, found.num_stats.common_stats.num_non_missing) == (INT, 2)


def test_more_rows_than_a_batch_are_read_a_batch_at_a_time(tmp_path):
    pd.DataFrame({"n": range(100_000)}).to_csv(tmp_path / "a.csv", index=False)
    sizes = [batch.num_rows for batch in open_data(tmp_path / "a.csv").batches()]
    assert sum(sizes) == 100_000
    assert max(sizes) == BATCH_ROWS


def truncated_tfrecord(folder):
    convert(TAXI, folder / "whole")
    data = (folder / "whole/data_tfrecord-00000-of-00001").read_bytes()
    return write(folder / "cut.tfrecord", data[: len(data) // 2])


def truncated_gzip(folder):
    return write(folder / "cut.csv.gz", gzip.compress(TAXI.read_bytes())[:50_000])


def damaged_parquet(folder):
    pq.write_table(pa.table({"a": list(range(10_000))}), folder / "a.parquet")
    return write(folder / "bad.parquet", (folder / "a.parquet").read_bytes()[:-20])


def nested_parquet(folder):
    pq.write_table(pa.table({"a": [{"b": 1}]}), folder / "a.parquet")
    return folder / "a.parquet"


def twice_in_parquet(folder):
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), folder / "a.parquet")
    return folder / "a.parquet"


def test_the_index_that_pandas_writes_is_a_column(tmp_path):
    data = open_data(write(tmp_path / "a.csv", ",fare\n0,9.5\n1,3\n"))
    assert data.columns == {"index": "int64", "fare": "float"}
    [batch] = data.batches()
    assert batch.to_pydict()["index"] == [[0], [1]]


def two_kinds(folder):
    write(folder / "k/a.csv", "a\n1\n")
    return write(folder / "k/b.tfrecord", "x").parent


def mixed_examples(folder):
    features = [
        tf.train.Feature(int64_list=tf.train.Int64List(value=[1])),
        tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"])),
    ]
    with tf.io.TFRecordWriter(str(folder / "a.tfrecord")) as writer:
        for feature in features:
            example = tf.train.Example(features=tf.train.Features(feature={"a": feature}))
            writer.write(example.SerializeToString())
    return folder / "a.tfrecord"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: write(f / "a.csv", ""), "a.csv is empty"),
        (lambda f: write(f / "a.csv", "\n\n"), "no header line"),
        (lambda f: write(f / "a.csv", ",,\n1,2,3\n"), "no header line; its first line must name the columns"),
        (lambda f: write(f / "a.csv", "a,b,a\n1,2,3\n"), "'a' is there twice"),
        (lambda f: write(f / "a.csv", "a,b\n1,2\n3\n4,5,6\n"), r"2 of 3 rows .*a.csv:3: '1 fields instead of 2'"),
        (lambda f: write(f / "a.csv", b"a,b\n1,caf\xe9\n2,tea\n"), r"1 not UTF-8 in b.*a.csv:2, b: 'caf\\\\xe9'"),
        (
            lambda f: write(f / "a.csv", 'a,b\n1,"open\n2,x\n3,y\n'),
            "a quote is never closed|inside of a quote|1 columns",
        ),
        (lambda f: write(f / "a.csv", "a,b\n1,2\n3"), r"a\.csv is truncated: its last row has 1 fields instead of 2"),
        (lambda f: f / "missing.csv", "missing.csv does not exist"),
        (lambda f: write(f / "trips.csv", "a\n1\n").with_name("tripz.csv"), "did you mean 'trips.csv'"),
        (lambda f: f / "nowhere/*.csv", r"no file matches .*quote it"),
        (lambda f: write(f / "e/.hidden.csv", "a\n1\n").parent, "holds no file"),
        (lambda f: write(f / "a.xlsx", "x"), "not of a kind that can be read"),
        (two_kinds, "several kinds"),
        (truncated_tfrecord, "damaged or cut off after record"),
        (lambda f: write(f / "a.tfrecord", "no record at all, only text"), "is not TFRecord"),
        (mixed_examples, "two disagree on a feature"),
        (lambda f: write(f / "a.parquet", "a,b\n1,2\n"), "is named as Parquet and is not"),
        (lambda f: damaged_parquet(f).rename(f / "x.csv"), "is named as csv, and is Parquet"),
        (damaged_parquet, "is not Parquet, or is damaged"),
        (twice_in_parquet, "a.parquet: the header 'a' is there twice"),
        (nested_parquet, "a.parquet: a is struct<b: int64>; .* flatten it"),
        (truncated_gzip, r"cut\.csv\.gz is truncated: its compressed data end too early"),
        (lambda f: write(f / "a.csv", gzip.compress(b"a\n1\n")), "rename it to a.csv.gz"),
        (lambda f: write(f / "a.pb", "text"), "holds no statistics"),
        (lambda f: f / "gone.pb", "gone.pb cannot be read"),
    ],
)
def test_bad_input_is_said_with_its_place(tmp_path, make, said):
    with pytest.raises(DataError, match=f"(?s){said}"):
        statistics(make(tmp_path))


def test_bad_rows_are_left_out_where_that_is_allowed_and_said(tmp_path, caplog):
    path = write(tmp_path / "a.csv", "a,b\n" + "1,2\n" * 98 + "3\n" + "4,5\n")
    assert statistics(path, max_rejected_share=0.01).datasets[0].num_examples == 99
    assert "left out: 1 of 100 rows" in caplog.text
    assert "a.csv:100" in caplog.text


def test_statistics_are_saved_and_read_as_tfdv_does(tmp_path):
    found = statistics(TAXI)
    save_statistics(found, tmp_path / "a.pb")
    save_statistics(found, tmp_path / "a.pbtxt")
    assert tfdv.load_stats_binary(str(tmp_path / "a.pb")) == found
    assert text_format.MessageToString(tfdv.load_stats_text(str(tmp_path / "a.pbtxt"))) == text_format.MessageToString(
        found
    )
    assert load_statistics(tmp_path / "a.pb") == statistics(tmp_path / "a.pb") == found
    with pytest.raises(DataError, match=r"name it a\.pb"):
        save_statistics(found, tmp_path / "a.txt")
