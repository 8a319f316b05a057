"""Examples and their file as TFX's encoder and TensorFlow's writer make them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tensorflow as tf
from tfx_bsl.coders import example_coder

from nightly.examples.encoding import as_features
from nightly.examples.tfexample import serialized
from nightly.examples.tfrecord import framed

ROWS = 2000


def _lists(random, kind):
    """Lists of 1 to 300 values."""
    lengths = random.integers(1, 300, ROWS) ** random.integers(0, 2, ROWS)
    total = int(lengths.sum())
    values = {
        pa.int64(): lambda: random.integers(-(2**63), 2**63 - 1, total) >> random.integers(0, 63, total),
        pa.float32(): lambda: random.normal(size=total).astype(np.float32),
        pa.binary(): lambda: [random.bytes(length) for length in random.integers(0, 200, total)],
    }[kind]()
    return pa.ListArray.from_arrays(pa.array(np.append(0, np.cumsum(lengths)), pa.int32()), pa.array(values, kind))


@pytest.fixture(scope="module")
def batch():
    """Values of every length that a varint's, a length's and a header's size depends on, a fifth of them missing."""
    random = np.random.default_rng(1)
    wholes = [0, 1, -1, 127, 128, 2**31, 2**63 - 1, -(2**63)]
    columns = {
        "whole": pa.array([*wholes, *random.integers(-300, 300, ROWS - len(wholes)).tolist()], pa.int64()),
        "große Zahl": pa.array(random.integers(-(2**63), 2**63 - 1, ROWS).tolist(), pa.int64()),
        "number": pa.array([np.inf, -0.0, *random.normal(size=ROWS - 2).tolist()], pa.float32()),
        "text" * 60: pa.array([random.bytes(length) for length in random.integers(0, 400, ROWS)], pa.binary()),
        "long": pa.array([b"x" * 20_000, b"", *[b"y" * 127, b"z" * 128] * (ROWS // 2 - 1)], pa.binary()),
        "missing": pa.nulls(ROWS, pa.int64()),
        **{f"list of {kind}": _lists(random, kind) for kind in (pa.int64(), pa.float32(), pa.binary())},
        "no lists": pa.nulls(ROWS, pa.list_(pa.binary())),
    }
    there = random.random((len(columns), ROWS)) > 0.2
    there[:, :8] = True
    arrays = [
        pc.if_else(pa.array(mask), column, pa.scalar(None, column.type))
        for mask, column in zip(there, columns.values(), strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, list(columns))


def parsed(examples):
    return [tf.train.Example.FromString(one) for one in examples]


@pytest.mark.slow
def test_examples_are_those_of_tfxs_encoder(batch):
    theirs = example_coder.RecordBatchToExamplesEncoder().encode(as_features(batch, batch.schema.names))
    assert parsed(serialized(batch).to_pylist()) == parsed(theirs)


def test_a_part_of_a_batch_is_these_rows(batch):
    assert serialized(batch.slice(100, 50)).to_pylist() == serialized(batch).to_pylist()[100:150]


def test_of_no_rows_there_is_no_example(batch):
    assert serialized(batch.slice(0, 0)).to_pylist() == []


def test_a_file_is_what_tensorflow_writes_and_reads(batch, tmp_path):
    examples = serialized(batch)
    (tmp_path / "ours").write_bytes(framed(examples))
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for example in examples.to_pylist():
            writer.write(example)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    read = tf.data.TFRecordDataset(str(tmp_path / "ours")).as_numpy_iterator()
    assert list(read) == examples.to_pylist()


def test_a_part_of_the_records_and_none_are_framed(batch):
    examples = serialized(batch)
    whole = bytes(framed(examples))
    assert b"".join(bytes(framed(examples.slice(n, 500))) for n in range(0, ROWS, 500)) == whole
    assert bytes(framed(examples.slice(0, 0))) == b""
    assert bytes(framed(pa.array([b""], pa.binary()))) != b""
