"""The same rows in every format and compression are the same snapshot; damaged and odd files of each say so."""

import csv
import datetime as dt
import decimal
import gzip
import io
import json
import os
import uuid
import zipfile

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightly.records.night import DownloadedFile
from nightly.snapshots.errors import UnreadableBodyError
from nightly.snapshots.readers import bodies
from tests.nightly.snapshots.test_ingest import records
from tests.support.nights import utc

SCHEMA = """
feature { name: "trips" type: INT }
feature { name: "fare" type: FLOAT }
feature { name: "city" type: BYTES }
feature { name: "tipped" type: INT }
feature { name: "tags" type: BYTES value_count { min: 1 } }
feature { name: "place" type: FLOAT value_count { min: 1 } }
"""
ROWS = [
    {"trips": 3, "fare": 0.1, "city": 'Köln, "am Rhein"', "tipped": True, "tags": ["a", "b, c"], "place": [0.5, -2.0]},
    {"trips": -(2**53) - 1, "fare": 1e-7, "city": "two\nlines", "tipped": False, "tags": ["ü"], "place": [1e6]},
    {"trips": None, "fare": None, "city": None, "tipped": None, "tags": None, "place": None},
    {"trips": 0, "fare": 12345678.25, "city": " 007 ", "tipped": True, "tags": None, "place": [0.1, 0.2, 0.3]},
]
TIMES = [dt.datetime(2016, 1, 2, 3, 4, 5, tzinfo=dt.UTC) + dt.timedelta(days=n) for n in range(len(ROWS))]
COLUMNS = ["day", *ROWS[0]]


@pytest.fixture
def bench(bench):
    bench.schema.write_text(SCHEMA)
    return bench


def with_zone(time):
    """The time as a reader in New York would write it."""
    return time.astimezone(dt.timezone(dt.timedelta(hours=-5))).isoformat()


def as_csv():
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for time, row in zip(TIMES, ROWS, strict=True):
        values = [json.dumps(value) if isinstance(value, list) else value for value in row.values()]
        values = [int(value) if isinstance(value, bool) else value for value in values]
        writer.writerow([with_zone(time), *values])
    return text.getvalue().encode()


def as_json():
    """With escapes, other orders of keys, and missing keys for some of the missing values."""
    lines = []
    for number, (time, row) in enumerate(zip(TIMES, ROWS, strict=True)):
        values = {"day": with_zone(time), **row}
        if number % 2:
            values = dict(reversed([(key, value) for key, value in values.items() if value is not None]))
        lines.append(json.dumps(values, ensure_ascii=bool(number % 2)))
    return ("\n".join(lines) + "\n").encode()


def as_avro(codec="null"):
    types = {"trips": "long", "fare": "double", "city": "string", "tipped": "boolean"}
    types |= {name: {"type": "array", "items": kind} for name, kind in (("tags", "string"), ("place", "double"))}
    fields = [{"name": name, "type": ["null", kind]} for name, kind in types.items()]
    fields.append({"name": "day", "type": {"type": "long", "logicalType": "timestamp-millis"}})
    rows = [{"day": time, **row} for time, row in zip(TIMES, ROWS, strict=True)]
    file = io.BytesIO()
    fastavro.writer(file, {"type": "record", "name": "trip", "fields": fields}, rows, codec=codec)
    return file.getvalue()


def as_parquet():
    table = pa.Table.from_pylist([{"day": time, **row} for time, row in zip(TIMES, ROWS, strict=True)])
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def zipped(content, name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
        archive.writestr("readme.txt", "x")
    return file.getvalue()


def zstd(content):
    """Two frames, as `cat` makes of two files."""
    half = len(content) // 2
    return b"".join(bytes(pa.compress(part, "zstd", asbytes=True)) for part in (content[:half], content[half:]))


def compressed(name, content):
    yield name, content
    yield f"{name}.gz", gzip.compress(content)
    yield f"{name}.zst", zstd(content)
    yield f"{name}.zip", zipped(content, name)
    yield "rows.zip", zipped(content, name)


def written():
    for name, content in (("rows.csv", as_csv()), ("rows.jsonl", as_json()), ("rows.avro", as_avro())):
        yield from compressed(name, content)
    yield from (("rows.ndjson", as_json()), ("rows.json", as_json()), ("rows.parquet", as_parquet()))
    yield from ((f"rows-{codec}.avro", as_avro(codec)) for codec in ("deflate", "bzip2", "xz"))
    yield "rows.jsonl", b"\xef\xbb\xbf" + as_json().replace(b"\n", b"\r\n\r\n")
    yield "compressed-without-saying-so.csv", zstd(as_csv())


def test_one_table_in_every_format_and_compression_is_one_snapshot(bench):
    ids = {}
    for name, content in written():
        path = bench.body(name, content)
        ref = bench.ingest(path=path, time_format="%Y-%m-%dT%H:%M:%S%z")
        assert bench.rejected() == [], name
        ids.setdefault(ref.snapshot_id, []).append(name)
    assert len(ids) == 1, ids
    assert bench.rows(ref, "day", "trips", "tipped", "city")[:2] == [
        (TIMES[0], 3, 1, 'Köln, "am Rhein"'),
        (TIMES[1], -(2**53) - 1, 0, "two\nlines"),
    ]


def test_tfrecord_in_every_compression_is_one_snapshot(bench):
    content = records([{"day": [1451606400 + n], "trips": [n], "city": [b"A"]} for n in range(50)])
    ids = set()
    for name, packed in compressed("rows.tfrecord", content):
        ids.add(bench.ingest(path=bench.body(name, packed), time_format="epoch_s").snapshot_id)
    assert len(ids) == 1


def test_a_column_that_the_schema_does_not_know_has_the_same_text(bench):
    """By its text a truth value is `true`, and a number is as the file has it."""
    bench.schema.write_text("")
    fields = [{"name": name, "type": kind} for name, kind in (("day", "string"), ("new", "boolean"), ("n", "long"))]
    avro = io.BytesIO()
    fastavro.writer(
        avro, {"type": "record", "name": "r", "fields": fields}, [{"day": "2016-01-02", "new": True, "n": 7}]
    )
    ids = set()
    for name, content in [
        ("a.csv", "day,new,n\n2016-01-02,true,7\n"),
        ("a.jsonl", '{"day": "2016-01-02", "new": true, "n": 7}'),
        ("a.avro", avro.getvalue()),
    ]:
        ids.add(bench.ingest(path=bench.body(name, content), label={"column": "new", "positive": ["true"]}).snapshot_id)
    assert len(ids) == 1


def many(rows=3000):
    """Too many for one block of Zstandard's."""
    return [json.dumps({"day": "2016-01-02", "trips": n, "city": os.urandom(40).hex()}) for n in range(rows)]


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        (lambda text: text[:-20], "it ends in the middle of an object"),
        (lambda text: gzip.compress(text)[:-500], "its compressed data end too early"),
        (lambda text: pa.compress(text, "zstd", asbytes=True)[:-500], "its compressed data end too early"),
    ],
)
def test_json_lines_that_are_cut(bench, pack, reason):
    content = pack("\n".join(many()).encode())
    bench.body("a.jsonl.gz" if content[:2] == b"\x1f\x8b" else "a.jsonl", content)
    ref = bench.ingest()
    (body,) = ref.delivery.truncated
    assert body.reason.startswith(reason)
    assert 0 < ref.rows < 3000
    assert ref.delivery.rejected_rows == 0


def test_csv_in_zstandard_that_is_cut(bench):
    rows = "".join(f"2016-01-02,{n},{hash(str(n))}\n" for n in range(50_000))
    bench.body("a.csv.zst", pa.compress(f"day,trips,city\n{rows}".encode(), "zstd", asbytes=True)[:-1000])
    ref = bench.ingest()
    assert ref.delivery.truncated[0].reason.startswith("its compressed data end too early")
    assert 10_000 < ref.rows < 50_000


@pytest.mark.parametrize("cut", [1, 10, 20, 200])
def test_avro_that_is_cut(bench, cut):
    fields = [{"name": "day", "type": "string"}, {"name": "trips", "type": "int"}, {"name": "city", "type": "string"}]
    rows = [{"day": "2016-01-02", "trips": n, "city": f"A{n}"} for n in range(3000)]
    file = io.BytesIO()
    fastavro.writer(file, {"type": "record", "name": "r", "fields": fields}, rows, sync_interval=4000)
    bench.body("a.avro", file.getvalue()[:-cut])
    ref = bench.ingest()
    assert [body.reason for body in ref.delivery.truncated] == ["it ends in the middle of a block"]
    assert 2000 < ref.rows <= 3000
    damaged = bytearray(file.getvalue())
    damaged[10_000:10_050] = b"\xff" * 50
    bench.body("a.avro", bytes(damaged))
    with pytest.raises(UnreadableBodyError, match=r"a\.avro is not Avro, or is damaged"):
        bench.ingest()


def test_bad_rows_of_json_lines_are_kept_aside(bench):
    lines = [
        b'{"day": "2016-01-02", "trips": 1, "city": "A"}',
        b'{"day": "2016-01-02", "trips": 2, "city": }',
        b"[1, 2]",
        b"",
        b'{"day": "2016-01-02", "trips": "two", "city": "A"}',
        b'{"day": "2016-01-02", "trips": 3, "city": "caf\xe9"}',
        rb'{"day": "2016-01-02", "trips": 3, "city": "half a pair \ud83d"}',
        b'{"day": "soon", "trips": 3, "city": "A"}',
        b'{"day": "2016-01-02", "trips": NaN, "city": "A"}',
        '{"day": "2016-01-02", "trips": 1e1, "city": "ü \\ud83d\\ude00"}'.encode(),
    ]
    path = bench.body("a.jsonl", b"\n".join(lines))
    ref = bench.ingest()
    assert sorted(bench.rows(ref, "trips", "city")) == [(1, "A"), (10, "ü \U0001f600")]
    found = sorted((row["row"], row["reason"], row["column"]) for row in bench.rejected())
    assert found == [
        (2, "record", ""),
        (3, "record", ""),
        (5, "number", "trips"),
        (6, "encoding", "city"),
        (7, "encoding", "city"),
        (8, "time", "day"),
        (9, "number", "trips"),
    ]
    assert {row["file"] for row in bench.rejected()} == {str(path)}
    assert {row["row"]: row["text"] for row in bench.rejected()}[2] == lines[1].decode()


NESTED = {"type": "record", "name": "inner", "fields": [{"name": "x", "type": "int"}]}


def avro_of(kind, value):
    file = io.BytesIO()
    fields = [{"name": "day", "type": "string"}, {"name": "home", "type": kind}]
    fastavro.writer(file, {"type": "record", "name": "r", "fields": fields}, [{"day": "2016-01-02", "home": value}])
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"day": "2016-01-02", "home": {"x": 1}}\n', r"home in line 1 is an object.*flatten it"),
        ("a.jsonl", '{"day": "2016-01-02", "home": [[1]]}\n', r"home in line 1 is a list of lists or objects"),
        ("a.json", '[{"day": "2016-01-02"}]', r"is one JSON array; write each of its objects on a line"),
        ("a.json", '{\n  "day": "2016-01-02"\n}\n', r"has no JSON object on a line of its own"),
        ("a.jsonl", "\n\n", r"has no JSON object on a line of its own"),
        ("a.jsonl.zst", b"not zstd", r"cannot be read to its end"),
        ("a.jsonl.gz", b"not gzip", r"cannot be read to its end"),
        ("a.avro", b"not avro", r"is not Avro, or is damaged"),
        ("a.avro", avro_of(NESTED, {"x": 1}), r"home is record; .*flatten it"),
        ("a.avro", avro_of({"type": "map", "values": "int"}, {"x": 1}), r"home is map; .*flatten it"),
        ("a.avro", avro_of(["int", "string"], 1), r"home is a union of several types"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(bench, name, content, words):
    bench.body(name, content)
    with pytest.raises(UnreadableBodyError, match=words) as raised:
        bench.ingest()
    assert "\n" not in str(raised.value)


def test_avro_types(bench):
    """Dates, decimals, enums that are named twice, and numbers of several widths."""
    city = {"type": "enum", "name": "City", "symbols": ["A", "B"]}
    types = {"city": city, "note": ["null", "City"], "trips": ["null", "int", "long"], "fare": ["float", "double"]}
    types |= {"day": {"type": "int", "logicalType": "date"}, "id": {"type": "string", "logicalType": "uuid"}}
    types |= {"price": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}
    row = {"city": "A", "note": "B", "trips": 3, "fare": 1.5, "day": dt.date(2016, 1, 2), "id": uuid.UUID(int=1)}
    file = io.BytesIO()
    fields = [{"name": name, "type": kind} for name, kind in types.items()]
    schema = {"type": "record", "name": "r", "namespace": "of.trips", "fields": fields}
    fastavro.writer(file, schema, [{**row, "price": decimal.Decimal("1.20")}])
    bench.body("a.avro", file.getvalue())
    assert bench.rows(bench.ingest(), "day", "city", "note", "trips", "fare", "id", "price") == [
        (utc(2016, 1, 2), "A", "B", 3, 1.5, str(uuid.UUID(int=1)), "1.20")
    ]


def test_the_columns_of_folders_are_columns_of_the_rows(bench):
    for city in ("A", "B%20C", "__HIVE_DEFAULT_PARTITION__"):
        folder = bench.bodies / "day=2016-01-02" / f"City={city}"
        folder.mkdir(parents=True)
        (folder / "rows.csv").write_text("trips,fare\n1,2.5\nbad\n2,3.5\n")
        (folder / "rows.jsonl").write_text('{"trips": 3, "city": "of the file"}\n')
    (bench.bodies / "day=2017-01-02").mkdir()
    (bench.bodies / "day=2017-01-02/rows.csv").write_text("not, read\n")
    ref = bench.ingest()
    rows = bench.rows(ref, "day", "trips", "city")
    assert sorted(rows, key=str) == sorted(
        [(utc(2016, 1, 2), trips, city) for trips in (1, 2) for city in ("A", "B C", None)]
        + [(utc(2016, 1, 2), 3, "of the file")],
        key=str,
    )
    assert len(bench.rejected()) == 3


def test_a_file_whose_name_does_not_tell_its_kind(tmp_path):
    path = tmp_path / "rows"
    path.write_bytes(gzip.compress(as_json()))
    (body,) = bodies(path, ".json")
    assert (body.kind, body.headers[0]) == ("json", "day")
    assert DownloadedFile(path="x", bytes=1, sha256="", origin="x").suffix == ""  # records of older versions
