import pyarrow as pa
import pytest

from nightly.examples.encoding import split_hash


@pytest.mark.parametrize("kind", [pa.int64(), pa.int32(), pa.bool_(), pa.float64(), pa.string(), pa.timestamp("us")])
def test_a_rows_side_does_not_depend_on_the_other_rows_of_its_batch(kind):
    values = pa.array([1, 0, None, 1]).cast(pa.int64())
    whole = pa.RecordBatch.from_arrays([values.cast(kind), pa.array(["a", "b", "c", "d"])], ["number", "text"])
    alone = [int(split_hash(whole.slice(row, 1), ["number", "text"])[0]) for row in range(4)]
    assert split_hash(whole, ["number", "text"]).tolist() == alone
    assert len(set(alone)) == 4


@pytest.mark.parametrize("kind", [pa.binary(), pa.list_(pa.string()), pa.list_(pa.int64()), pa.list_(pa.float32())])
def test_the_side_of_lists_and_bytes_depends_on_their_content_only(kind):
    lists = [["1", "2"], ["12"], None, ["1", "2"]]
    if pa.types.is_binary(kind):
        values = pa.array([b"\x00\xff", b"", None, b"\x00\xff"], kind)
    elif kind.value_type == pa.string():
        values = pa.array(lists, kind)
    else:
        values = pa.array([[float(x) for x in row] if row else row for row in lists]).cast(kind)
    whole = pa.RecordBatch.from_arrays([values], ["id"])
    alone = [int(split_hash(whole.slice(row, 1), ["id"])[0]) for row in range(4)]
    assert split_hash(whole, ["id"]).tolist() == alone
    assert alone[0] == alone[3]
    assert len(set(alone)) == 3
