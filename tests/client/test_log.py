"""Logged predictions: readable by TensorFlow and pyarrow, without what may not be written, whole after a crash."""

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from nightly.io.paths import ROOT
from nightly_client import PredictionLog, example, read_tfrecord

KEY = b"0123456789abcdef"
ROW = {"fare": 12.5, "company": "Yellow", "taxi_id": "cab-17", "trips": 3, "tags": [b"\xff", "x"], "none": None}


def write(log: PredictionLog, rows=(ROW,), values=(0.5,), **more) -> None:
    log.write(list(rows), list(values), **{"model": "taxi", "version": 7, "label": "stable", **more})


def test_tensorflow_reads_what_was_logged_as_tfrecord(tmp_path):
    with PredictionLog(tmp_path) as log:
        write(log, ids=["trip-1"])
        write(log, [example({"fare": 1.0, "company": "Blue"}).SerializeToString()], [[0.25]])
    [path] = tmp_path.glob("*.tfrecord")
    records = [tf.train.Example.FromString(r.numpy()).features.feature for r in tf.data.TFRecordDataset(str(path))]
    assert len(records) == 2
    assert records[0]["fare"].float_list.value == [12.5] and records[0]["trips"].int64_list.value == [3]
    assert records[0]["tags"].bytes_list.value == [b"\xff", b"x"] and "none" not in records[0]
    assert records[0]["serving/id"].bytes_list.value == [b"trip-1"]
    assert records[0]["serving/version"].int64_list.value == [7]
    assert records[0]["prediction/value"].float_list.value == [0.5]
    assert records[1]["company"].bytes_list.value == [b"Blue"] and "input" not in records[1]
    assert list(read_tfrecord(path))[1]["fare"] == [1.0]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match="damaged"):
        list(read_tfrecord(path))


@pytest.mark.parametrize("file_format", ["tfrecord", "jsonl", "parquet"])
def test_what_is_removed_or_hashed_is_never_on_disk(tmp_path, file_format):
    serialized = example({name: value for name, value in ROW.items() if value is not None}).SerializeToString()
    log = PredictionLog(tmp_path, format=file_format, remove=["company"], hash=["taxi_id"], key=KEY)
    write(log, [ROW, serialized, {"examples": serialized}], [0.1, 0.2, 0.3], caller="ada@lovelace")
    during = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    log.close()
    after = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for written in (during, after):
        for secret in (b"Yellow", b"cab-17", b"ada@lovelace", KEY):
            assert secret not in written
    expected = hmac.new(KEY, b"cab-17", hashlib.sha256).hexdigest().encode()
    assert during.count(expected) == 3
    assert during.count(b"serving/removed") == during.count(b"serving/hashed") == 3  # that there was something is said


def test_hashing_needs_a_key_that_cannot_be_guessed(tmp_path):
    with pytest.raises(ValueError, match="without a key"):
        PredictionLog(tmp_path, hash=["taxi_id"])
    with pytest.raises(ValueError, match="16 or more"):
        PredictionLog(tmp_path, hash=["taxi_id"], key="short")
    with PredictionLog(tmp_path) as log:  # nor is a caller written without one
        write(log, caller="ada@lovelace")
    [path] = tmp_path.glob("*.tfrecord")
    assert b"ada@lovelace" not in path.read_bytes()


def test_json_lines_and_parquet_have_a_column_for_each_name(tmp_path):
    with PredictionLog(tmp_path / "j", format="jsonl") as log:
        write(log, [{"fare": 1.5}, {"fare": 2, "extra": "x"}], [{"a": 1.0, "b": [2, 3]}] * 2)
    [path] = (tmp_path / "j").glob("*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[1]["extra"] == ["x"] and rows[0]["prediction/b"] == [2, 3] and rows[0]["serving/model"] == ["taxi"]
    with PredictionLog(tmp_path / "p", format="parquet") as log:
        write(log, [{"fare": 1.5}, {"fare": 2, "extra": "x"}], [[("0", 0.75), ("1", 0.25)]] * 2)
    [path] = (tmp_path / "p").glob("*.parquet")
    table = pq.read_table(path).to_pydict()
    assert table["fare"] == [[1.5], [2.0]] and table["extra"] == [None, ["x"]]
    assert table["prediction/classes"] == [["0", "1"]] * 2 and table["prediction/scores"] == [[0.75, 0.25]] * 2


@pytest.mark.parametrize(
    ("answers", "columns"),
    [
        ([[0.25], [1]], {"value": [[0.25], [1.0]]}),
        ([12.5, 7], {"value": [[12.5], [7.0]]}),
        (
            [{"probabilities": [0.5, 0.5], "class": ["a"]}, {"probabilities": [1, 0], "class": ["b"]}],
            {"probabilities": [[0.5, 0.5], [1.0, 0.0]], "class": [["a"], ["b"]]},
        ),
        (
            [[("a", 0.75), ("b", 0.25)], [("b", 1), ("a", 0)]],
            {"classes": [["a", "b"], ["b", "a"]], "scores": [[0.75, 0.25], [1.0, 0.0]]},
        ),
    ],
    ids=["one output", "regress", "several outputs", "classify"],
)
def test_parquet_has_a_column_of_lists_for_each_part_of_an_answer(tmp_path, answers, columns):
    """A server over REST may write 1.0 as 1."""
    with PredictionLog(tmp_path, format="parquet") as log:
        write(log, [{"fare": 1.5}] * 2, answers)
    [path] = tmp_path.glob("*.parquet")
    table = pq.read_table(path)
    logged = {name for name in table.column_names if name.startswith("prediction/")}
    assert logged == {f"prediction/{name}" for name in columns}
    assert {name: table[f"prediction/{name}"].to_pylist() for name in columns} == columns


def test_a_file_is_ended_at_its_size_and_appears_whole(tmp_path):
    log = PredictionLog(tmp_path, max_bytes=2_000)
    seen = set()
    for number in range(100):
        write(log, ids=[str(number)])
        for path in tmp_path.glob("*.tfrecord"):
            if path not in seen:
                seen.add(path)
                assert list(read_tfrecord(path)) and 2_000 <= path.stat().st_size < 3_000
    log.close()
    ids = sorted(int(r["serving/id"][0]) for path in tmp_path.glob("*.tfrecord") for r in read_tfrecord(path))
    assert ids == list(range(100)) and len(seen) > 5
    assert log.rotate() is None


@pytest.mark.parametrize("file_format", ["tfrecord", "jsonl", "parquet"])
def test_what_a_killed_process_has_left_is_made_whole_by_the_next(tmp_path, file_format):
    code = (
        "import os, signal, sys; from nightly_client import PredictionLog\n"
        f"log = PredictionLog(sys.argv[1], format={file_format!r})\n"
        "for i in range(5): log.write([{'x': 1.0}], [0.5], model='m', version=1, ids=[str(i)])\n"
        "log._file.write(b'{\"half'); log._file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not list(tmp_path.glob("predictions*"))

    living = PredictionLog(tmp_path, format=file_format)
    [path] = tmp_path.glob("predictions*")
    if file_format == "parquet":
        assert pq.read_table(path)["serving/id"].to_pylist() == [[str(i)] for i in range(5)]
    elif file_format == "jsonl":
        assert [json.loads(line)["serving/id"] for line in path.read_text().splitlines()] == [
            [str(i)] for i in range(5)
        ]
    else:
        assert [r["serving/id"] for r in read_tfrecord(path)] == [[str(i).encode()] for i in range(5)]
    write(living)
    PredictionLog(tmp_path, format=file_format)  # takes nothing from one that lives
    assert len(list(tmp_path.glob("predictions*"))) == 1
    living.close()
    assert len(list(tmp_path.glob("predictions*"))) == 2


def test_a_log_that_cannot_be_written_does_not_fail_the_caller(tmp_path, caplog):
    log = PredictionLog(tmp_path)
    write(log, [{"x": {"y": object()}}])
    assert "1 predictions of taxi could not be logged" in caplog.text
    write(log)
    assert log.close() is not None and os.listdir(tmp_path)
