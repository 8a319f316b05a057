"""Examples as Arrow: whichever component wrote them, in order, and never a damaged record."""

import pyarrow as pa
import pytest
import tensorflow as tf

from nightly.examples import reading
from nightly.examples.reading import record_batches
from tests.support.trial_night import write

ROWS = 50


def example(number: int) -> bytes:
    feature = {"number": tf.train.Feature(int64_list=tf.train.Int64List(value=[number]))}
    if number % 7:  # one that not every row has
        feature["text"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"%d" % number]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.fixture
def split(tmp_path):
    """Two files as TFX's ExampleGen writes them, and one as ours."""
    folder = tmp_path / "Split-train"
    examples = [example(number) for number in range(ROWS)]
    write(folder / "data-00000-of-00003.gz", examples[:20])
    write(folder / "data-00001-of-00003.gz", examples[20:30])
    with tf.io.TFRecordWriter(str(folder / "data-00002-of-00003")) as writer:
        for one in examples[30:]:
            writer.write(one)
    return folder


def test_compressed_or_not_rows_come_in_order_and_in_bounded_batches(split, monkeypatch):
    monkeypatch.setattr(reading, "BATCH_ROWS", 16)
    batches = list(record_batches(str(split), raw_record_column="raw"))
    assert [batch.num_rows for batch in batches] == [16, 16, 16, 2]
    table = pa.Table.from_batches(batches)
    assert table.column("number").to_pylist() == [[number] for number in range(ROWS)]
    assert table.column("raw").to_pylist() == [[example(number)] for number in range(ROWS)]
    assert table.column("text").null_count == len(range(0, ROWS, 7))


def test_the_batches_are_those_of_tfxs_reader(split):
    from tfx_bsl.tfxio import tf_example_record
    from tfx_bsl.tfxio.dataset_options import RecordBatchesOptions

    (split / "data-00002-of-00003").unlink()  # of files of two kinds, TFX's reader reads none
    options = RecordBatchesOptions(batch_size=ROWS, num_epochs=1, shuffle=False)
    (ours,) = record_batches(str(split), raw_record_column="raw")
    reader = tf_example_record.TFExampleRecord(
        str(split / "*"), telemetry_descriptors=["tests"], raw_record_column_name="raw"
    )
    (theirs,) = reader.RecordBatches(options)
    assert ours.schema == theirs.schema
    ordered = [sorted(batch.to_pylist(), key=lambda row: row["number"]) for batch in (ours, theirs)]  # it interleaves
    assert ordered[0] == ordered[1]


def test_a_damaged_record_is_an_error_and_no_row_of_it_is_read(split):
    path = split / "data-00002-of-00003"
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    with pytest.raises(tf.errors.DataLossError):
        list(record_batches(str(split)))


def test_an_empty_split_has_no_batch(tmp_path):
    assert list(record_batches(str(tmp_path))) == []
