"""TFRecord of tf.Example from any data set: all of it or nothing, sharded, and split as the nights split."""

import gzip
from collections import Counter
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.types import standard_artifacts

from nightly.data import convert
from nightly.data.errors import DataError
from nightly.tfx.components.examples import SnapshotExampleGen
from tests.support.data import TAXI
from tests.support.snapshots import write_snapshot
from tests.support.statistics import examples, write


@pytest.mark.slow
def test_every_value_arrives_in_every_shard(trips, tmp_path):
    rows = convert(TAXI, tmp_path / "out", shards=3, gzip=True)
    assert rows == {"": len(trips)}
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"data_tfrecord-0000{n}-of-00003.gz" for n in range(3)]
    assert all(gzip.decompress(file.read_bytes()) for file in files)
    found = [tf.train.Example.FromString(one).features.feature for one in examples(tmp_path / "out")]
    assert Counter(e["payment_type"].bytes_list.value[0].decode() for e in found) == Counter(trips["payment_type"])
    assert sum(bool(e["company"].bytes_list.value) for e in found) == trips["company"].notna().sum()
    assert sorted(e["trip_start_timestamp"].int64_list.value[0] for e in found) == sorted(trips["trip_start_timestamp"])


@pytest.mark.slow
def test_a_split_is_that_of_the_nights(trips, tmp_path):
    columns = list(trips.columns)
    write_snapshot(tmp_path / "s", trips)
    night = standard_artifacts.Examples()
    night.uri = str(tmp_path / "night")
    SnapshotExampleGen.EXECUTOR_SPEC.executor_class().Do(
        {},
        {"examples": [night]},
        {
            "snapshot": str(tmp_path / "s"),
            "columns": "\n".join(columns),
            "id_columns": "\n".join(columns),
            "label": "big_tipper",
            "eval_percent": 20,
            "beam_args": "",
        },
    )
    rows = convert(tmp_path / "s", tmp_path / "out", split={"train": 80, "eval": 20})
    assert sum(rows.values()) == len(trips)
    for split in ("train", "eval"):
        ours, its = examples(tmp_path / f"out/Split-{split}"), examples(tmp_path / f"night/Split-{split}")
        assert sorted(ours) == sorted(its)


@pytest.mark.slow
def test_the_same_id_is_on_the_same_side_whatever_it_is_written_as(trips, tmp_path):
    some = trips[["company", "fare"]].dropna()
    some.to_csv(tmp_path / "a.csv", index=False)
    convert(tmp_path / "a.csv", tmp_path / "plain")
    split = {"train": 50, "test": 30, "eval": 20}
    sides = []
    for place, out in (("a.csv", "one"), ("plain", "two")):
        convert(tmp_path / place, tmp_path / out, split=split, id_columns=["company"])
        sides.append({name: set(examples(tmp_path / out / f"Split-{name}")) for name in split})
    assert sides[0]["train"] and sides[0]["test"] and sides[0]["eval"]
    companies = [{_company(e) for e in side} for side in sides[0].values()]
    assert not (companies[0] & companies[1] or companies[1] & companies[2] or companies[0] & companies[2])


def _company(serialized):
    return tf.train.Example.FromString(serialized).features.feature["company"].bytes_list.value[0]


def test_nothing_is_there_when_the_data_turn_out_to_be_bad(tmp_path):
    path = write(tmp_path / "a.csv", "a,b\n" + "1,2\n" * 1000 + "3\n4,5\n")
    with pytest.raises(DataError, match=r"a\.csv:1002"):
        convert(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir() if p.name != "var"] == ["a.csv"]


def test_what_is_there_already_is_not_written_over(tmp_path):
    write(tmp_path / "out/mine.txt", "x")
    with pytest.raises(DataError, match="is there already"):
        convert(TAXI, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"split": {"train": 80, "eval": 10}}, "add up to 100"),
        ({"split": {"train": 100, "eval": 0}}, "above 0"),
        ({"split": {"../x": 50, "y": 50}}, "a split's name"),
        ({"split": {"a": 50, "b": 50}, "id_columns": ["fair"]}, "no feature 'fair'; did you mean 'fare'"),
        ({"shards": 0}, "--shards 0"),
        ({"model": "taxy"}, "did you mean 'taxi'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_there(tmp_path, how, said):
    with pytest.raises(Exception, match=said):
        convert(TAXI, tmp_path / "out", **how)
    assert not Path(tmp_path / "out").exists()


def test_a_schema_types_the_features_and_a_value_of_another_type_is_a_bad_row(tmp_path):
    schema = schema_pb2.Schema()
    schema.feature.add(name="zip", type=schema_pb2.BYTES)
    schema.feature.add(name="fare", type=schema_pb2.FLOAT)
    path = write(tmp_path / "a.csv", "zip,fare\n02139,5\n10001,x\n94110,\n")
    with pytest.raises(DataError, match=r"1 no number in fare[^$]*a\.csv:3, fare: 'x'"):
        convert(path, tmp_path / "out", schema=schema)
    assert convert(path, tmp_path / "out", schema=schema, max_rejected_share=0.5) == {"": 2}
    first, second = (tf.train.Example.FromString(one).features.feature for one in examples(tmp_path / "out"))
    assert (first["zip"].bytes_list.value, first["fare"].float_list.value) == ([b"02139"], [5.0])
    assert not second["fare"].WhichOneof("kind")
    schema.feature[0].type = schema_pb2.INT
    with pytest.raises(DataError, match="zip is string there and int64 in the schema"):
        convert(tmp_path / "out", tmp_path / "again", schema=schema)
