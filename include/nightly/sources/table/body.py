"""Write a data file's rows as Parquet. The same rows in the same order give the same bytes."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# A row group has as many batches as reach one of these, so the memory is bounded for narrow and for wide rows.
ROWS = 65_536
BYTES = 32 << 20


def write(batches: Iterator[pa.RecordBatch], target: Path) -> None:
    """Write the batches to `target`, or nothing if they have no rows. Raises OSError."""
    writer, group, rows, size = None, [], 0, 0
    try:
        for batch in batches:
            if not batch.num_rows:
                continue
            writer = writer or _writer(target, batch.schema)
            group.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if rows >= ROWS or size >= BYTES:
                writer.write_table(pa.Table.from_batches(group), row_group_size=rows)
                group, rows, size = [], 0, 0
        if group:
            writer.write_table(pa.Table.from_batches(group), row_group_size=rows)
    finally:
        if writer is not None:
            writer.close()


def _writer(target: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Dictionaries of numbers that rarely repeat take four times as long, and more space.
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    return pq.ParquetWriter(target, schema, compression="zstd", use_dictionary=texts or False)
