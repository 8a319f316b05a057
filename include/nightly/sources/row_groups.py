"""Write record batches to Parquet in bounded memory, so that the same rows give the same bytes.

A driver's batches differ from night to night, so rows are grouped anew, by their number and size alone.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightly.io.space import full_disk_explained

GROUP_BYTES = 32 << 20  # in memory
GROUP_ROWS = 1 << 17


def write_parquet(target: Path, batches: Iterable[pa.RecordBatch]) -> int:
    """Write `batches`, which have one schema, to `target`, and return the number of rows. No rows make no file.

    Raises SpaceError, and what `batches` raises.
    """
    rows, writer = 0, None
    try:
        for group in _groups(batches):
            with full_disk_explained(target.parent, f"a part of {rows + group.num_rows:,} rows"):
                writer = writer or pq.ParquetWriter(target, group.schema, compression="zstd")
                writer.write_table(group, row_group_size=group.num_rows)
            rows += group.num_rows
    finally:
        if writer:
            with full_disk_explained(target.parent, f"a part of {rows:,} rows"):
                writer.close()
    return rows


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.Table]:
    """Yield tables of GROUP_ROWS rows, or of fewer with at least GROUP_BYTES; the last one has the rest."""
    pending: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        ends = np.cumsum(sum((_sizes(column) for column in batch.columns), np.zeros(batch.num_rows, np.int64)))
        start = 0
        while start < batch.num_rows:
            before = ends[start - 1] if start else 0
            fitting = int(np.searchsorted(ends[start:] - before, GROUP_BYTES - size)) + 1
            taken = min(fitting, GROUP_ROWS - rows, batch.num_rows - start)
            pending.append(batch.slice(start, taken))
            start, rows, size = start + taken, rows + taken, size + int(ends[start + taken - 1] - before)
            if rows >= GROUP_ROWS or size >= GROUP_BYTES:
                yield pa.Table.from_batches(pending).combine_chunks()
                pending, rows, size = [], 0, 0
    if pending:
        yield pa.Table.from_batches(pending).combine_chunks()


def _sizes(values: pa.Array) -> np.ndarray:
    """Return the bytes of each value, shape (rows,)."""
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = _filled(pc.list_value_length(values))
        ends = np.cumsum(lengths)
        totals = np.concatenate([[0], np.cumsum(_sizes(values.flatten()))])
        return totals[ends] - totals[ends - lengths] + 8
    if _has_length(kind):
        return _filled(pc.binary_length(values)) + 8
    return np.full(len(values), 1 if pa.types.is_boolean(kind) or pa.types.is_null(kind) else kind.bit_width // 8)


def _has_length(kind: pa.DataType) -> bool:
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _filled(lengths: pa.Array) -> np.ndarray:
    return lengths.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
