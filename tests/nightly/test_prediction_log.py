"""Logged predictions as the client has written them: every format, by time, a table at a time."""

import datetime as dt
import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest

from nightly import prediction_log as predictions
from nightly.io.paths import ROOT
from nightly.prediction_log import DamagedLogError, read
from nightly_client import PredictionLog, example

KEY = b"0123456789abcdef"
FORMATS = pytest.mark.parametrize("file_format", ["tfrecord", "jsonl", "parquet"])


def write(
    folder, file_format="tfrecord", rows=({"fare": 12.5, "trips": 3, "company": "Yellow"},), values=(0.5,), **more
):
    with PredictionLog(folder, format=file_format, **more) as log:
        log.write(list(rows), list(values), model="taxi", version=7, label="stable", caller="ada", ids=None)


def rows_of(tables):
    return [row for table in tables for row in table.to_pylist()]


@FORMATS
def test_every_format_gives_the_same_columns(tmp_path, file_format):
    serialized = example({"fare": 1.0, "company": "Blue"}).SerializeToString()
    write(
        tmp_path,
        file_format,
        [{"fare": 12.5, "trips": 3, "company": "Yellow"}, {"examples": serialized}],
        [0.5, [0.25]],
    )
    (table,) = read(tmp_path)
    assert table.schema.field("fare").type == pa.list_(pa.float64())
    assert table.schema.field("trips").type == pa.list_(pa.int64())
    assert table["company"].to_pylist() == [[b"Yellow"], [b"Blue"]] and table["trips"].to_pylist() == [[3], None]
    assert table["prediction/value"].to_pylist() == [[0.5], [0.25]]
    assert table["serving/version"].to_pylist() == [7, 7] and table["serving/label"].to_pylist() == ["stable"] * 2
    assert table["serving/caller"].to_pylist() == [None, None]


@FORMATS
def test_what_the_client_removed_or_hashed_is_named(tmp_path, file_format):
    write(tmp_path, file_format, remove=["fare"], hash=["company"], key=KEY)
    (row,) = rows_of(read(tmp_path))
    assert (row["serving/removed"], row["serving/hashed"]) == (["fare"], ["company"])
    assert "fare" not in row and len(row["company"][0]) == 64 and len(row["serving/caller"]) == 64


def test_only_what_was_logged_in_the_window_is_read_and_older_files_are_not_opened(tmp_path, monkeypatch):
    for day in (1, 2, 3):
        moment = dt.datetime(2026, 5, day, 12, tzinfo=dt.UTC).timestamp()
        monkeypatch.setattr("nightly_client.log.time.time_ns", lambda moment=moment: int(moment * 1e9))
        write(tmp_path / f"{day}", rows=[{"day": day}])
        (path,) = (tmp_path / f"{day}").glob("predictions-*")
        path.rename(tmp_path / f"predictions-2026050{day}T120000-1-abcdef-1.tfrecord")
    start, end = dt.datetime(2026, 5, 2, 12, tzinfo=dt.UTC), dt.datetime(2026, 5, 3, 12, tzinfo=dt.UTC)
    assert [row["day"] for row in rows_of(read(tmp_path, start, end))] == [[2]]
    assert [row["day"] for row in rows_of(read(tmp_path, end=end))] == [[1], [2]]
    old = tmp_path / "predictions-20260401T000000-1-abcdef-1.jsonl"
    old.write_text("damaged, and of no concern")
    os.utime(old, (moment - 9 * 86_400,) * 2)
    assert len(rows_of(read(tmp_path, start))) == 2
    late = tmp_path / "predictions-20260601T000000-1-abcdef-1.jsonl"
    late.write_text("damaged, and of no concern")
    assert len(rows_of(read(tmp_path, start, end))) == 1


def test_a_file_comes_in_tables_of_bounded_size_and_what_is_being_written_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "ROWS", 40)
    write(tmp_path, rows=[{"x": 1.0}] * 100, values=[0.5] * 100)
    with PredictionLog(tmp_path) as log:
        log.write([{"x": 2.0}], [0.5], model="taxi", version=7)
        assert [table.num_rows for table in read(tmp_path)] == [40, 40, 20]
    assert len(rows_of(read(tmp_path))) == 101
    assert not list(read(tmp_path / "nowhere"))


def test_numbers_of_both_kinds_are_doubles_and_text_among_numbers_is_text(tmp_path):
    write(tmp_path, "jsonl", [{"a": 1, "b": 1}, {"a": 2.5, "b": "x"}, {"a": 3}], [0.5] * 3)
    (table,) = read(tmp_path)
    assert table["a"].to_pylist() == [[1.0], [2.5], [3.0]] and table["b"].to_pylist() == [[b"1"], [b"x"], None]


@pytest.mark.parametrize(
    ("file_format", "damage"),
    [
        ("tfrecord", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        ("tfrecord", lambda data: data[:-9]),
        ("tfrecord", lambda data: data + b"\xff\xff"),
        ("tfrecord", lambda data: b"\xff" * 8 + data[8:]),  # a length of 2 ** 64 - 1 bytes
        ("jsonl", lambda data: data[: len(data) // 2]),
        ("jsonl", lambda data: b"\xff" + data),
        ("jsonl", lambda data: json.dumps({"fare": [1.0]}).encode()),
        ("jsonl", lambda data: b"[]\n"),
        ("jsonl", lambda data: data.replace(b"[7]", b'["seven"]')),
        ("parquet", lambda data: data[:-9]),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, file_format, damage):
    write(tmp_path, file_format)
    (path,) = tmp_path.glob("predictions-*")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedLogError, match=rf"{path.name} is damaged .*bring it back from a copy, or move it"):
        list(read(tmp_path))


def test_it_is_read_without_tensorflow():
    code = "import sys, nightly.prediction_log; assert not {'tensorflow', 'tfx'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
