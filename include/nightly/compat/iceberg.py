"""Read a data file of an Iceberg table in batches. pyiceberg's public readers hold all batches of a file in memory."""

from collections.abc import Iterator

import pyarrow as pa
from pyiceberg.io.pyarrow import ArrowScan, _read_all_delete_files
from pyiceberg.table import FileScanTask


def batches(scan: ArrowScan, task: FileScanTask) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the task's data file, without those that its delete files name."""
    return scan._record_batches_from_scan_tasks_and_deletes([task], _read_all_delete_files(scan._io, [task]))
