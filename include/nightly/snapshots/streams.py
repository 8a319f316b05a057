"""Open files as streams of bytes, without their compression.

A stream whose compressed data end too early raises EOFError, as gzip does, so that every reader finds it alike.
"""

import gzip
import io
import zipfile
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from nightly.sources.files.formats import compression_of, kind_of

READ_BYTES = 1 << 16  # what Arrow has read is lost if the end is missing
MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}


def open_stream(path: Path, name: str) -> Any:
    """Open a file that is compressed as its `name` says; if that says nothing, as its first bytes do."""
    compression = compression_of(name)
    if not compression and kind_of(name) != "tfrecord":  # a TFRecord begins with a length, which may be any bytes
        with path.open("rb") as file:
            start = file.read(4)
        compression = next((suffix for magic, suffix in MAGIC.items() if start.startswith(magic)), "")
    if compression == ".gz":
        return gzip.open(path, "rb")
    return io.BufferedReader(_Zstd(path), 1 << 20) if compression == ".zst" else path.open("rb")


def open_member(path: Path, member: str) -> IO[bytes]:
    """Open a file in a zip archive."""
    archive = zipfile.ZipFile(path)
    opened = archive.open(member)
    archive.close()  # the file stays open until its member is closed
    return opened


class _Zstd(io.RawIOBase):
    """Zstandard by Arrow, since the package zstandard does not tell that the data end too early."""

    def __init__(self, path: Path) -> None:
        self._stream = pa.input_stream(str(path), compression="zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(min(len(buffer), READ_BYTES))
        except OSError as error:
            if "Truncated" in str(error):
                raise EOFError("the end of the last frame is missing") from error
            raise
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()
