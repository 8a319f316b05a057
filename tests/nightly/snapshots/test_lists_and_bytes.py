"""Lists, vectors and bytes in a snapshot, from TFRecord, Parquet and CSV."""

import base64
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from nightly.records.label_config import BinaryLabel
from nightly.snapshots.errors import ColumnError, TooManyRejectedError, UnreadableBodyError
from nightly.snapshots.store import SnapshotStore
from nightly_client import example

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
FLIPPED = PNG.replace(b"cd`", b"cd_")
COMMENTED = PNG.replace(b"\0\0\0\rIDAT", b"\0\0\0\x05tEXtc\0ok!" + bytes(4) + b"\0\0\0\rIDAT")  # a wrong checksum
PIXELS = b"\xff\xda\x00\x02\x12\xff\x00\x34\xff\xd0\x56"  # the start of a JPEG's scan, a 255 and a restart in it
THUMBNAIL = b"Exif\xff\xd8" + PIXELS + b"\xff\xd9"
JPEG = b"\xff\xd8\xff\xe1" + (len(THUMBNAIL) + 2).to_bytes(2) + THUMBNAIL + PIXELS + PIXELS + b"\xff\xd9"
SCHEMA = """
feature { name: "tags" type: BYTES value_count { min: 1 } }
feature { name: "visits" type: INT value_count { min: 1 } }
feature { name: "place" type: FLOAT shape { dim { size: 3 } } presence { min_fraction: 1 } }
feature { name: "photo" type: BYTES image_domain {} }
feature { name: "sound" type: BYTES annotation { tag: "bytes" } }
feature { name: "trips" type: INT }
feature { name: "city" type: BYTES }
"""
ROW = {"day": "2016-01-05", "city": "A", "trips": 3, "tags": ["a", "b"], "visits": [1, 2, 3], "place": [0.5, 1.0, -2.0]}
ROW |= {"photo": PNG, "sound": b"\x00\xff"}
BARE = {"day": "2016-01-06", "city": "B", "trips": 4, "place": [0.1, 0.2, 0.3]}  # nothing that may be missing
COLUMNS = ("trips", "tags", "visits", "place", "photo", "sound")


@pytest.fixture
def bench(bench):
    bench.schema.write_text(SCHEMA)
    return bench


def parquet(bench, *rows, name="rows.parquet", **types):
    table = pa.Table.from_pylist(list(rows))
    for column, data_type in types.items():
        table = table.set_column(table.schema.names.index(column), column, table[column].cast(data_type))
    pq.write_table(table, bench.bodies / name)


def tfrecord(bench, *rows, name="rows.tfrecord"):
    with tf.io.TFRecordWriter(str(bench.bodies / name)) as writer:
        for row in rows:
            writer.write(example(row).SerializeToString())


def expected(*rows):
    places = [np.float32(row["place"]).tolist() for row in rows]
    return [tuple({**row, "place": p}.get(column) for column in COLUMNS) for row, p in zip(rows, places, strict=True)]


@pytest.mark.parametrize("write", [parquet, tfrecord])
def test_lists_vectors_and_bytes_are_stored_as_the_source_has_them(bench, write):
    write(bench, ROW, {**BARE, "tags": [], "visits": []})
    ref = bench.ingest()
    assert bench.rejected() == []
    assert bench.rows(ref, *COLUMNS) == expected(ROW, BARE)
    columns = bench.store.get(ref.snapshot_id).columns
    assert [columns[name] for name in COLUMNS] == [
        *("int64", "list<string>", "list<int64>", "list<float>", "binary", "binary")
    ]


def test_the_same_rows_have_the_same_id_whatever_holds_them(bench, tmp_path):
    ids = set()
    for write in (parquet, tfrecord):
        for path in bench.bodies.iterdir():
            path.unlink()
        write(bench, ROW, BARE)
        ids.add(bench.ingest().snapshot_id)
    assert len(ids) == 1


def test_a_list_in_csv_is_a_json_array(bench):
    header = "day,city,trips,tags,visits,place"
    lists = ['"[""a"", ""b""]"', '"[1, 2, 3]"', '"[0.5, 1, -2]"']
    bench.body("rows.csv", f'{header}\n2016-01-05,A,3,{",".join(lists)}\n2016-01-06,B,4,,[],"[0.1, 0.2, 0.3]"\n')
    ref = bench.ingest()
    assert bench.rejected() == []
    assert bench.rows(ref, "tags", "visits", "place") == [row[1:4] for row in expected(ROW, BARE)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a, b", "'a, b' is no JSON array of texts"),
        ('["a", 1]', "is no JSON array of texts"),
        ('{"a": 1}', "is no JSON array of texts"),
    ],
)
def test_a_text_that_is_no_json_array_is_rejected(bench, text, said):
    bench.body("rows.csv", "day,city,tags\n2016-01-05,A,{}\n".format('"' + text.replace('"', '""') + '"'))
    bench.ingest()
    (rejected,) = bench.rejected()
    assert (rejected["reason"], rejected["column"], rejected["row"]) == ("list", "tags", 2)
    assert said in rejected["value"]


@pytest.mark.parametrize(
    ("column", "value", "reason", "said"),
    [
        ("place", [1.0, 2.0], "length", "2 values instead of 3"),
        ("place", [1.0, float("nan"), 2.0], "list", "nan in a list of numbers"),
        ("place", [1.0, 1e300, 2.0], "list", "1e+300 in a list of numbers"),
        ("place", [1.0, None, 2.0], "list", "None in a list of numbers"),
        ("visits", [1.5], "list", "1.5 in a list of whole numbers"),
        ("visits", ["1", "x"], "list", "'x' in a list of whole numbers"),
        ("photo", b"", "image", "an empty value"),
        ("photo", b"GIF89a" + bytes(100), "image", "106 bytes that begin with b'GIF89a"),
        ("photo", PNG[:-20], "image", f"{len(PNG) - 20} bytes of a PNG image that is cut off"),
        ("photo", FLIPPED, "image", f"{len(PNG)} bytes of a PNG image that is damaged"),
        ("photo", JPEG[:-2], "image", f"{len(JPEG) - 2} bytes of a JPEG image that is cut off"),
        ("photo", JPEG[:10], "image", "10 bytes of a JPEG image that is cut off"),
        ("photo", b"\xff\xd8\xff\xe0" + bytes(9), "image", "13 bytes of a JPEG image that is cut off"),
        ("sound", b"", "bytes", "an empty value"),
        ("trips", [1, 2], "columns", "2 values in trips"),
    ],
)
def test_a_value_that_the_schema_rules_out_is_rejected_with_column_and_row(bench, column, value, reason, said):
    parquet(bench, ROW, BARE, name="good.parquet")
    parquet(bench, {**BARE, column: value}, name="bad.parquet")
    ref = bench.ingest()
    assert bench.rows(ref, *COLUMNS) == expected(ROW, BARE)
    (rejected,) = bench.rejected()
    assert (rejected["reason"], rejected["column"], rejected["row"]) == (reason, column, 1)
    assert rejected["file"].endswith("bad.parquet")
    assert said in rejected["value"]


@pytest.mark.parametrize("photo", [JPEG, COMMENTED, PNG + b"!"])
def test_a_thumbnail_a_damaged_comment_or_more_bytes_do_not_harm_an_image(bench, photo):
    parquet(bench, {**ROW, "photo": photo})
    assert bench.rows(bench.ingest(), "photo") == [(photo,)]
    assert bench.rejected() == []


def test_too_many_bad_vectors_stop_the_night_with_column_value_and_row(bench):
    parquet(bench, BARE, *[{**BARE, "place": [0.0]}] * 9)
    with pytest.raises(TooManyRejectedError, match=r"'length' in place, e.g. '1 values instead of 3' in row 2 of rows"):
        bench.ingest(max_rejected_share=0.1)


def test_an_image_is_never_written_to_the_rejected_rows(bench):
    parquet(bench, {**ROW, "photo": PNG * 10_000, "place": [1.0]})
    bench.ingest()
    (rejected,) = bench.rejected()
    assert f"{len(PNG) * 10_000:,} bytes" in rejected["text"]
    assert len(rejected["text"]) < 200


def test_every_parquet_type_is_read(bench):
    row = {**ROW, "trips": 3.0, "city": "A"}
    large, fixed = pa.list_(pa.float64(), 3), pa.large_list(pa.large_string())
    parquet(bench, row, place=large, tags=fixed, day=pa.date32(), city=pa.dictionary(pa.int8(), pa.string()))
    assert bench.rows(bench.ingest(), *COLUMNS) == expected(ROW)


def test_values_in_values_are_refused(bench):
    parquet(bench, {**ROW, "shape": {"width": 1}})
    with pytest.raises(UnreadableBodyError, match=r"rows.parquet: shape is struct.*flatten it"):
        bench.ingest()


def test_a_damaged_parquet_file_is_named(bench):
    bench.body("rows.parquet", b"PAR1 and no more")
    with pytest.raises(UnreadableBodyError, match=r"rows.parquet is not Parquet, or is damaged"):
        bench.ingest()


def test_a_label_is_one_value(bench):
    parquet(bench, ROW)
    with pytest.raises(ColumnError, match=r"data.label.column: tags is list<string>, and a label is one value"):
        bench.ingest(label=BinaryLabel(column="tags", positive=["a"]))


@pytest.mark.parametrize("write", [parquet, tfrecord])
def test_a_list_or_an_image_that_is_not_in_the_schema_is_kept_for_the_data_gate(bench, write):
    write(bench, {**ROW, "extra": [1, 2], "logo": PNG}, {**BARE, "extra": [3]})
    ref = bench.ingest()
    assert bench.rows(ref, "extra", "logo") == [([1, 2], PNG), ([3], None)]
    assert bench.store.get(ref.snapshot_id).columns["logo"] == "binary"


def test_rows_that_differ_in_a_list_or_in_bytes_only_are_no_duplicates(bench):
    rows = [ROW, {**ROW, "tags": ["ab"]}, {**ROW, "photo": PNG + b"!"}, {**ROW, "visits": [1, 2, 4]}, ROW]
    parquet(bench, *rows)
    ref = bench.ingest()
    assert ref.rows == 4
    assert ref.delivery.duplicate_rows == 1


def test_the_last_row_of_an_id_of_bytes_is_kept(bench):
    parquet(bench, {**ROW, "trips": 1}, {**ROW, "trips": 2}, {**BARE, "trips": 3, "photo": PNG + b"!"})
    assert bench.rows(bench.ingest(id_columns=["photo"]), "trips") == [(2,), (3,)]


def test_large_rows_are_divided_into_more_shards_with_the_same_id(bench, monkeypatch):
    rows = [{**ROW, "trips": number, "sound": bytes([1]) * 10_000} for number in range(40)]
    parquet(bench, *rows)
    whole = bench.ingest()
    monkeypatch.setattr("nightly.snapshots.builder.SHARD_BYTES", 100_000)
    bench.store = SnapshotStore(bench.folder / "others", "test")
    divided = bench.ingest()
    assert divided.snapshot_id == whole.snapshot_id
    assert [len(bench.store.get(divided.snapshot_id).files), bench.rows(divided, "trips")] == [
        *(5, bench.rows(whole, "trips"))
    ]


def test_ids_of_snapshots_without_lists_are_those_of_earlier_versions(bench):
    """The id was computed by the version before lists and bytes."""
    bench.body("rows.csv", 'day,city,trips,fare\n2016-01-05,Ä,3,0.1\n2016-01-06,,4,\n2016-01-07,"x,y",,1e-3\n')
    assert bench.ingest().snapshot_id == "970763902276e29bb64f8eae9684595f"


def test_json_of_a_long_vector_is_read_exactly(bench):
    values = np.random.default_rng(0).normal(size=3).tolist()
    bench.body("rows.csv", f'day,city,place\n2016-01-05,A,"{json.dumps(values)}"\n')
    assert bench.rows(bench.ingest(), "place") == [(np.float32(values).tolist(),)]
