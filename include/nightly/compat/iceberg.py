"""Read a data file of an Iceberg table in bounded memory.

pyiceberg's public readers hold all batches of a file, and Arrow's buffer before the scan holds the file itself.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pa_dataset
from pyiceberg.io import pyarrow as reader
from pyiceberg.manifest import FileFormat
from pyiceberg.table import FileScanTask

_get_file_format = reader._get_file_format


def _unbuffered(file_format: FileFormat, **options: Any) -> pa_dataset.FileFormat:
    return _get_file_format(file_format, **(options | {"pre_buffer": False}))


reader._get_file_format = _unbuffered


def batches(scan: reader.ArrowScan, task: FileScanTask) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the task's data file, without those that its delete files name."""
    return scan._record_batches_from_scan_tasks_and_deletes([task], reader._read_all_delete_files(scan._io, [task]))
