"""Write Arrow batches as the Parquet body of a part. The same rows give the same bytes, however they are batched."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightly.io.atomic import sync_path
from nightly.io.space import full_disk_explained

GROUP_BYTES = 32 << 20  # of the values in a row group; what is held in memory
MOST_ROWS = 100_000
SAMPLE_ROWS = 1000  # which tell how long rows are


def write_parquet(target: Path, batches: Iterable[pa.RecordBatch | pa.Table]) -> int:
    """Write the batches, which have one schema, and return the number of rows; write nothing if there are none.

    An error of `batches` passes through, and leaves no file. Raises SpaceError.
    """
    pending: pa.Table | None = None
    group_rows = rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        with full_disk_explained(target.parent, "a body"):
            for batch in batches:
                table = _plain(batch)
                pending = table if pending is None else pa.concat_tables([pending, table])
                while pending.num_rows >= (group_rows or SAMPLE_ROWS):
                    group_rows = group_rows or _rows_of_a_group(pending.slice(0, SAMPLE_ROWS))
                    if pending.num_rows < group_rows:
                        break
                    writer = writer or _open(target, pending.schema)
                    writer.write_table(pending.slice(0, group_rows).combine_chunks())
                    rows, pending = rows + group_rows, pending.slice(group_rows)
            if pending is not None and pending.num_rows:
                writer = writer or _open(target, pending.schema)
                writer.write_table(pending.combine_chunks())
                rows += pending.num_rows
            if writer:
                writer.close()
                sync_path(target)
    except BaseException:
        if writer:
            writer.close()
        target.unlink(missing_ok=True)
        raise
    return rows


def _open(target: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(target, schema, compression="zstd", write_statistics=False)


def _plain(batch: pa.RecordBatch | pa.Table) -> pa.Table:
    """Return a table without what depends on how its maker built it: metadata and dictionaries."""
    table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    fields = []
    for field in table.schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        fields.append(pa.field(field.name, kind))
    return table.cast(pa.schema(fields))


def _rows_of_a_group(sample: pa.Table) -> int:
    length = max(1, sum(_bytes(column) for column in sample.columns) // sample.num_rows)
    return max(1, min(MOST_ROWS, GROUP_BYTES // length))


def _bytes(values: pa.ChunkedArray | pa.Array) -> int:
    """Return the size of the values alone: that of Arrow's buffers depends on the batches."""
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return 8 * len(values) + sum(_bytes(chunk.flatten()) for chunk in values.chunks)
    if any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)):
        return 8 * len(values) + (pc.sum(pc.binary_length(values)).as_py() or 0)
    return 8 * len(values)
