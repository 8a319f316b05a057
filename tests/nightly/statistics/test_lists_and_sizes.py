"""Statistics of lists are TFDV's; images, bytes and long text are measured and compared by size, not by content."""

import apache_beam as beam
import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.checks.evidence import Measured
from nightly.examples.encoding import as_features
from nightly.schemas.features import sized_features
from nightly.snapshots.types import TYPES
from nightly.statistics.comparators import distances
from nightly.statistics.distributions import build_distributions
from nightly.statistics.measure import statistics_of
from nightly.statistics.sizes import at_least, stats_options
from tests.support.digits import SCHEMA, digits
from tests.support.statistics import assert_same, by_name

KINDS = {"id": "int64", "photo": "binary", "rows": "list<float>", "bright": "list<int64>", "strokes": "list<string>"}
KINDS |= {"story": "string", "even": "int64"}
CURATED = text_format.Parse(SCHEMA, schema_pb2.Schema())
SIZED = sized_features(CURATED)


def features(rows):
    schema = pa.schema([(name, TYPES[kind]) for name, kind in KINDS.items()])
    return as_features(pa.RecordBatch.from_pylist(rows, schema), list(KINDS))


def measured(rows, sized=SIZED):
    return statistics_of([features(rows[:250]), features(rows[250:])], sized)


@pytest.mark.slow
@pytest.mark.parametrize("sized", [{}, SIZED], ids=["as TFDV has them", "by size"])
def test_the_same_numbers_as_tfdvs_on_beam(sized, tmp_path):
    rows = digits()
    path = tmp_path / "stats.pb"
    with beam.Pipeline() as pipeline:
        batches = pipeline | beam.Create([features(rows[:100]), features(rows[100:])])
        (
            batches
            | tfdv.GenerateStatistics(stats_options(sized))
            | tfdv.WriteStatisticsToBinaryFile(str(path))
        )  # fmt: skip
    theirs = tfdv.load_stats_binary(str(path))
    ours = measured(rows, sized)
    others = {"photo", "story"} if sized else set()
    for name in ("bright", "strokes") if sized else ():
        assert by_name(ours)[name].custom_stats == by_name(theirs)[name].custom_stats
        assert by_name(ours)[name].custom_stats
    for side in (ours, theirs):
        assert {name for name, f in by_name(side).items() if f.HasField("bytes_stats")} == others
    for name in others:
        a, b = by_name(ours)[name], by_name(theirs)[name]
        assert a.bytes_stats == b.bytes_stats
        assert list(a.custom_stats) == list(b.custom_stats)
        for side in (ours, theirs):
            side.datasets[0].features.remove(by_name(side)[name])
    assert_same(ours, theirs, quantiles=False)


def test_lists_have_lengths_and_counts_of_their_values():
    rows = digits()
    actual = by_name(measured(rows))
    bright, strokes = actual["bright"].num_stats, actual["strokes"].string_stats
    lengths = [len(row["bright"]) for row in rows if row["bright"]]
    assert bright.common_stats.num_non_missing == len(lengths)
    assert bright.common_stats.avg_num_values == pytest.approx(sum(lengths) / len(lengths))
    assert bright.common_stats.max_num_values == max(lengths)
    words = [word for row in rows for word in row["strokes"]]
    assert strokes.unique == len(set(words))
    assert strokes.rank_histogram.buckets[0].sample_count == max(words.count(word) for word in set(words))
    assert actual["rows"].num_stats.common_stats.min_num_values == 8


def test_the_lengths_of_lists_are_counted():
    rows = digits()
    shares = at_least(by_name(measured(rows))["bright"], len(rows))
    for length in (1, 5, 12):
        assert shares[length] == sum(len(row["bright"] or []) >= length for row in rows) / len(rows)
    long = [{"id": number, "bright": [0] * 100} for number in range(10)]
    assert at_least(by_name(measured(long))["bright"], 20) == {64: 0.5}


def test_images_and_text_are_counted_by_format_and_size_and_never_by_content():
    rows = digits()
    actual = by_name(measured([*rows, {**rows[0], "photo": b"\xff\xd8\xff" + bytes(5000)}]))
    photo = actual["photo"]
    sizes = [len(row["photo"]) for row in rows]
    assert photo.bytes_stats.avg_num_bytes == pytest.approx((sum(sizes) + 5003) / (len(rows) + 1))
    assert (photo.bytes_stats.min_num_bytes, photo.bytes_stats.max_num_bytes_int) == (min(sizes), 5003)
    custom = {stat.name: {b.label: b.sample_count for b in stat.rank_histogram.buckets} for stat in photo.custom_stats}
    assert custom["image_format_histogram"] == {"jpeg": 1, "png": len(rows)}
    assert custom["size_classes"]["jpeg, 4 to 8 KiB"] == 1
    assert sum(custom["size_classes"].values()) == len(rows) + 1
    assert not any(rows[0]["photo"] in f.SerializeToString() for f in actual.values())
    assert rows[0]["story"] not in str(actual["story"])


def drift(rows, before, schema=CURATED):
    anomalies = distances(measured(rows), schema, before=measured(before))
    return {".".join(i.path.step): i.drift_measurements[0].value for i in anomalies.drift_skew_info}


def test_drift_of_images_is_the_largest_change_of_a_size_class_or_format():
    rows, before = digits()[:300], digits()[300:]
    assert drift(rows, before)["photo"] < 0.2
    larger = [{**row, "photo": row["photo"] + bytes(len(row["photo"]) * 3)} if row["id"] % 2 else row for row in rows]
    assert drift(larger, before)["photo"] == pytest.approx(0.5, abs=0.1)
    others = [{**row, "photo": b"\xff\xd8\xff" + row["photo"]} for row in rows]
    assert drift(others, before)["photo"] > 0.6


def test_drift_of_long_text_is_the_largest_change_of_a_size_class():
    schema = schema_pb2.Schema()
    schema.CopyFrom(CURATED)
    story = next(feature for feature in schema.feature if feature.name == "story")
    story.drift_comparator.infinity_norm.threshold = 0.1
    rows, before = digits()[:300], digits()[300:]
    assert drift(rows, before, schema)["story"] < 0.2
    assert drift([{**row, "story": row["story"][:20]} for row in rows], before, schema)["story"] > 0.8


def test_tfdv_reports_images_of_another_format_and_vectors_of_another_length():
    rows = digits()[:300]
    assert not tfdv.validate_statistics(measured(rows), CURATED, environment="TRAINING").anomaly_info
    wrong = [{**row, "photo": b"no image at all", "rows": row["rows"][:7]} for row in rows]
    anomalies = tfdv.validate_statistics(measured(wrong), CURATED, environment="TRAINING").anomaly_info
    assert set(anomalies) == {"photo", "rows"}


def test_the_gate_and_the_page_see_size_classes_as_values():
    statistics = measured(digits())
    photo = Measured.of(statistics).features["photo"].string_stats
    assert photo.rank_histogram.buckets[0].label == "png, 64 to 128 bytes"
    page = {feature.name: feature for feature in build_distributions(statistics, statistics).features}
    assert page["photo"].values[0].value == "png, 64 to 128 bytes"
    assert page["story"].values[0].value == "64 to 128 bytes"
    assert page["photo"].missing_current == 0
    assert page["rows"].histogram is not None
