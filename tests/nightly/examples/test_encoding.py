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
