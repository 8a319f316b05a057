"""A Delta or Iceberg table as a source: its parts are the data files that the window needs, of one version.

version.py   what both formats offer: a version of a table, and its data files
delta.py     a version of a Delta table
iceberg.py   a version of an Iceberg table
columns.py   the columns that a snapshot can hold
window.py    which rows a window can have, by the time column
body.py      writes a data file's rows as Parquet
failures.py  one sentence for what the libraries raise

A data file never changes, so a night fetches only the files that no earlier night has. A file is fetched with all its
rows, whatever the window, so that its body is the same every night.
"""

import logging
from importlib import import_module
from pathlib import Path

from nightly.records.source_config import TableSource
from nightly.sources.base import Context, Fetched, Part
from nightly.sources.table.body import write
from nightly.sources.table.version import DataFile, TableVersion

log = logging.getLogger(__name__)


def open_source(config: TableSource, context: Context) -> "Table":
    """Return the table in the version that the night reads. Raises SourceError."""
    version = import_module(f"{__name__}.{config.format}").open_version(config, context)
    return Table(version, all_columns=not config.columns)


class Table:
    """One version of a table. What is written to the table meanwhile is not seen.

    :param all_columns: are read, so a body is about as large as its data file
    """

    def __init__(self, version: TableVersion, *, all_columns: bool) -> None:
        self.version, self.all_columns = version, all_columns
        self.files: dict[str, DataFile] = {}

    def parts(self) -> list[Part]:
        """Return the data files that may have rows of the window, oldest first, and the version itself.

        The version is a part without rows. Its record tells a later night which version this one has read.
        """
        files, total = self.version.files()
        self.files = {file.name: file for file in files}
        log.info("%s: %s; the window needs %s of %s files", self.version.place, self.version, len(files), total)
        version = Part(f"{self.version.place} (version)", fingerprint=self.version.id, rows=False)
        return [*(self._part(file) for file in files), version]

    def _part(self, file: DataFile) -> Part:
        return Part(file.name, fingerprint=file.fingerprint, bytes=file.bytes if self.all_columns else 0)

    def fetch(self, part: Part, target: Path, known: str) -> Fetched:
        file = self.files.get(part.name)
        if file is not None:
            write(self.version.read(file), target)
            return Fetched()
        return Fetched(revised=self._has_revised_rows(known) if known else False)

    def _has_revised_rows(self, known: str) -> bool:
        """Return whether rows of the window's files have changed since an earlier night read the version `known`.

        Logs each operation that replaced files: their bodies do not tell it, as new files are parts of their own.
        """
        changes = self.version.changes_since(known)
        for change in changes:
            files = f"{change.files} of the window's files" if change.files > 1 else "one of the window's files"
            if change.same_rows:
                log.info("%s: %s rewrote %s: the rows are the same", self.version.place, change.operation, files)
            else:
                log.warning("%s: %s has revised rows of %s", self.version.place, change.operation, files)
        return not all(change.same_rows for change in changes)
