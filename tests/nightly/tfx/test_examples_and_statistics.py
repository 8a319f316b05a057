"""Examples from a snapshot, and their statistics: what TFX's own components make of the same rows."""

import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tfx.types import standard_artifacts
from tfx_bsl.coders import example_coder

from benchmarks import same
from nightly.examples import encoding
from nightly.examples.reading import column_batches, columns_file, record_batches, records
from nightly.statistics.measure import statistics_of
from nightly.tfx.components.examples import SnapshotExampleGen
from nightly.tfx.components.statistics import InProcessStatisticsGen
from tests.support.data import TAXI
from tests.support.snapshots import write_snapshot


def run_example_gen(snapshot, folder, **parameters):
    examples = standard_artifacts.Examples()
    examples.uri = str(folder)
    columns = pq.ParquetFile(next(Path(snapshot).glob("rows-*.parquet"))).schema_arrow.names
    defaults = {
        "columns": "\n".join(columns),
        "id_columns": "\n".join(columns),
        "label": "big_tipper",
        "eval_percent": 20,
    }
    SnapshotExampleGen.EXECUTOR_SPEC.executor_class().Do(
        {}, {"examples": [examples]}, {"snapshot": str(snapshot), **defaults, **parameters}
    )
    return examples


def read(folder, split):
    return [
        tf.train.Example.FromString(record.numpy())
        for record in tf.data.TFRecordDataset([str(p) for p in (Path(folder) / f"Split-{split}").iterdir()])
    ]


@pytest.fixture(scope="module")
def trips():
    return pd.read_csv(TAXI)


@pytest.fixture(scope="module")
def examples(trips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    run_example_gen(write_snapshot(tmp_path_factory.mktemp("snapshot"), trips), folder)
    return folder


@pytest.mark.slow
def test_every_value_arrives_and_a_null_is_a_missing_feature(trips, examples):
    train, held_out = read(examples, "train"), read(examples, "eval")
    assert len(train) + len(held_out) == len(trips)
    assert 0.18 < len(held_out) / len(trips) < 0.22
    fares = sorted(e.features.feature["fare"].float_list.value[0] for e in train + held_out)
    np.testing.assert_allclose(fares, sorted(trips["fare"].astype(np.float32)))
    with_company = sum(bool(e.features.feature["company"].bytes_list.value) for e in train + held_out)
    assert with_company == trips["company"].notna().sum()


@pytest.mark.slow
def test_a_row_never_changes_sides_whatever_rows_come_with_it(trips, examples, tmp_path):
    some = trips.sample(3000, random_state=1)
    run_example_gen(write_snapshot(tmp_path / "snapshot", some), tmp_path / "out")

    def keys(folder, split):
        return {example.SerializeToString(deterministic=True) for example in read(folder, split)}

    assert keys(tmp_path / "out", "train") <= keys(examples, "train")
    assert keys(tmp_path / "out", "eval") <= keys(examples, "eval")


def test_rows_without_a_label_are_left_out(trips, tmp_path):
    some = trips.head(1000).assign(big_tipper=lambda f: f["big_tipper"].where(f.index % 4 > 0))
    run_example_gen(write_snapshot(tmp_path / "snapshot", some), tmp_path / "out")
    assert len(read(tmp_path / "out", "train")) + len(read(tmp_path / "out", "eval")) == 750


def test_a_snapshot_without_its_label_gives_no_examples_and_no_crash(trips, tmp_path):
    run_example_gen(write_snapshot(tmp_path / "s", trips.head(100).drop(columns="big_tipper")), tmp_path / "out")
    assert read(tmp_path / "out", "train") == []
    columns = column_batches(columns_file(str(tmp_path / "out"), "train"))
    for batches in (columns, record_batches(str(tmp_path / "out/Split-train"))):
        (found,) = statistics_of(batches).datasets
        assert found.num_examples == 0 and not found.features


def test_the_columns_beside_the_examples_are_what_they_are_decoded_to(trips, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "BATCH_ROWS", 250)
    some = trips.head(1000).assign(
        nothing=None,
        late=[None] * 900 + list(range(100)),  # null throughout in some batches
        when=pd.to_datetime(trips["trip_start_timestamp"], unit="s", utc=True),
        yes=trips["fare"] > 10,
        whole=trips["fare"].fillna(0).astype("int32"),
    )
    run_example_gen(write_snapshot(tmp_path / "snapshot", some), tmp_path / "out")
    for split in ("train", "eval"):
        columns = list(column_batches(columns_file(str(tmp_path / "out"), split)))
        serialized = records(str(tmp_path / f"out/Split-{split}"))
        decoder = example_coder.ExamplesToRecordBatchDecoder()
        decoded = [decoder.DecodeBatch(list(islice(serialized, batch.num_rows))) for batch in columns]
        assert len(columns) == 4 and next(serialized, None) is None
        for ours, theirs in zip(columns, decoded, strict=True):
            assert set(ours.schema.names) == set(theirs.schema.names)
            for name in ours.schema.names:
                mine, its = ours.column(name), theirs.column(name)
                assert pa.types.is_null(mine.type) == pa.types.is_null(its.type), name
                assert mine.to_pylist() == its.to_pylist(), name
        mine, its = ({f.path.step[0]: f for f in statistics_of(b).datasets[0].features} for b in (columns, decoded))
        assert mine == its


def test_statistics_are_made_of_the_columns_and_of_other_components_examples(examples, tmp_path):
    found = []
    for number, with_columns in enumerate((True, False)):
        source = tmp_path / f"examples{number}"
        shutil.copytree(examples, source)
        if not with_columns:
            shutil.rmtree(source / "columns")
        given, made = standard_artifacts.Examples(), standard_artifacts.ExampleStatistics()
        given.uri, made.uri = str(source), str(tmp_path / f"statistics{number}")
        given.split_names = '["train", "eval"]'
        InProcessStatisticsGen.EXECUTOR_SPEC.executor_class().Do(
            {"examples": [given]}, {"statistics": [made]}, {"beam_args": ""}
        )
        found.append(Path(made.uri))
    differences = same.statistics(*found)
    assert differences["statistics"]["largest"] == 0
    assert differences["quantiles"]["largest"] <= same.SKETCH


@pytest.mark.slow
@pytest.mark.parametrize("form", ["columns", "records"])
def test_statistics_are_those_of_statistics_gen(examples, tmp_path, form):
    columns = column_batches(columns_file(str(examples), "train"))
    ours = statistics_of(columns if form == "columns" else record_batches(str(examples / "Split-train"))).datasets[0]
    theirs = tfdv.generate_statistics_from_tfrecord(
        str(examples / "Split-train/*"), output_path=str(tmp_path / "stats.pb")
    ).datasets[0]
    assert ours.num_examples == theirs.num_examples
    theirs_by_name = {feature.path.step[0]: feature for feature in theirs.features}
    assert {feature.path.step[0] for feature in ours.features} == set(theirs_by_name)
    for feature in ours.features:
        other = theirs_by_name[feature.path.step[0]]
        assert feature.type == other.type
        kind = feature.WhichOneof("stats")
        mine, its = getattr(feature, kind), getattr(other, kind)
        assert mine.common_stats.num_non_missing == its.common_stats.num_non_missing
        assert mine.common_stats.num_missing == its.common_stats.num_missing
        if kind == "num_stats":
            for name in ("mean", "std_dev", "min", "max", "median", "num_zeros"):
                assert getattr(mine, name) == pytest.approx(getattr(its, name), rel=1e-6), (feature.path.step[0], name)
        else:
            assert mine.unique == its.unique
            assert list(mine.rank_histogram.buckets) == list(its.rank_histogram.buckets)
            assert list(mine.top_values) == list(its.top_values)
