"""Read Parquet in batches of bounded size."""

import pyarrow.parquet as pq

BATCH_BYTES = 32 << 20


def rows_per_batch(file: pq.ParquetFile, rows: int, limit: int = BATCH_BYTES) -> int:
    """Return how many rows, at most `rows`, have `limit` bytes together, by the file's largest row group."""
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    largest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=0)
    return max(1, min(rows, int(limit / max(largest, 1))))
