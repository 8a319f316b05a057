"""A log of predictions in files, for later labels and for the check of serving skew."""

import base64
import datetime as dt
import fcntl
import hashlib
import hmac
import json
import logging
import os
import struct
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

from . import protos

LOG = logging.getLogger("nightly_client")
MASK_DELTA = 0xA282EAD8  # of TFRecord's masked CRC-32C
MIN_KEY_BYTES = 16
Value = bytes | str | int | float
Record = dict[str, list[Value]]


class PredictionLog:
    """A log with a record for each answered row: as TFRecord of tf.Example, JSON lines, or Parquet. Thread-safe.

    A file is written under a hidden name and renamed when it is complete: at `max_bytes`, by `rotate()` or `close()`.
    The next process that logs to the folder completes the files of a process that died.

    :param folder: created if it does not exist
    :param remove: features that are never written, by the name of an input, or of a feature of a tf.Example
    :param hash: features that are written as HMAC-SHA256 with `key`
    :param key: secret, 16 bytes or more. With a key, the caller is logged as a hash; without one, it is not logged
    :param max_bytes: the size of a file; for Parquet, before compression
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        format: Literal["tfrecord", "jsonl", "parquet"] = "tfrecord",  # noqa: A002  users pass it by this name
        remove: Iterable[str] = (),
        hash: Iterable[str] = (),  # noqa: A002  users pass it by this name
        key: bytes | str | None = None,
        max_bytes: int = 64 * 2**20,
    ) -> None:
        if format not in ("tfrecord", "jsonl", "parquet"):
            raise ValueError(f"format {format!r}: tfrecord, jsonl and parquet are known")
        self._remove, self._hash = frozenset(remove), frozenset(hash)
        self._key = key.encode() if isinstance(key, str) else key
        if self._hash and self._key is None:
            raise ValueError(f"{', '.join(sorted(self._hash))} cannot be hashed without a key")
        if self._key is not None and len(self._key) < MIN_KEY_BYTES:
            raise ValueError(f"a key of {len(self._key)} bytes can be guessed: give {MIN_KEY_BYTES} or more")
        if max_bytes < 1:
            raise ValueError(f"max_bytes is 1 or more, not {max_bytes}: no file would have room for a record")
        if format == "tfrecord":
            _crc32c(b"")
        if format == "parquet":
            import pyarrow  # noqa: F401  fails now, not when the first file is full
        self.folder = Path(folder)
        self.format = format
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._path = Path()
        self._number = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        self._recover()

    def __enter__(self) -> "PredictionLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(
        self,
        rows: Sequence[Any],
        values: Sequence[Any],
        *,
        model: str,
        version: int | None,
        label: str | None = None,
        caller: str | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Write a record for each row. An error is only logged, because the caller has its answer already."""
        try:
            common = self._common(model, version, label, caller)
            names = ids or [uuid.uuid4().hex for _ in rows]
            with self._lock:
                for name, row, value in zip(names, rows, values, strict=True):
                    record = self._features(row) | _outputs(value) | common
                    self._append(_frame(self.format, record | {"serving/id": [str(name)]}))
        except Exception:
            LOG.exception("%d predictions of %s could not be logged in %s", len(rows), model, self.folder)

    def rotate(self) -> Path | None:
        """Complete the current file and return its path, or None if nothing was written."""
        with self._lock:
            return self._finish()

    close = rotate

    def _common(self, model: str, version: int | None, label: str | None, caller: str | None) -> Record:
        common: Record = {"serving/time_micros": [time.time_ns() // 1000], "serving/model": [model]}
        if version is not None:
            common["serving/version"] = [version]
        if label is not None:
            common["serving/label"] = [label]
        if caller is not None and self._key is not None:
            common["serving/caller"] = [self._hashed(caller)]
        return common

    def _features(self, row: Any) -> Record:
        """Return the request's features, some of them removed or hashed, with the names of those.

        So a reader of the log does not take them for missing, or hashes for values.
        """
        record: Record = {}
        removed, hashed = set(), set()
        for name, value in row.items() if isinstance(row, dict) else [("input", row)]:
            features = _example_features(value)
            for key, inner in features.items() if features is not None else [(name, _flat(value))]:
                if not inner:
                    continue
                if self._remove & {key, name}:
                    removed.add(key)
                elif self._hash & {key, name}:
                    hashed.add(key)
                    record[key] = [self._hashed(v) for v in inner]
                else:
                    record[key] = inner
        changed = {"serving/removed": sorted(removed), "serving/hashed": sorted(hashed)}
        return record | {name: names for name, names in changed.items() if names}

    def _hashed(self, value: Value) -> str:
        data = value if isinstance(value, bytes) else str(value).encode()
        return hmac.new(self._key or b"", data, hashlib.sha256).hexdigest()

    def _append(self, frame: bytes) -> None:
        if self._file is None:
            self._open()
        self._file.write(frame)
        self._file.flush()
        if self._file.tell() >= self.max_bytes:
            self._finish()

    def _open(self) -> None:
        self._number += 1
        began = dt.datetime.now(dt.UTC)
        name = f"predictions-{began:%Y%m%dT%H%M%S}-{os.getpid()}-{uuid.uuid4().hex[:6]}-{self._number}"
        self._path = self.folder / f".{name}.{_journal(self.format)}.part"
        with self._folder_lock():
            self._file = open(self._path, "xb")  # noqa: SIM115
            fcntl.flock(self._file, fcntl.LOCK_EX)  # for as long as this process lives

    def _finish(self) -> Path | None:
        if self._file is None:
            return None
        file, self._file = self._file, None
        with file:
            file.flush()
            os.fsync(file.fileno())
            return _publish(self._path, self.format)

    def _recover(self) -> None:
        with self._folder_lock():
            for path in self.folder.glob(f".predictions-*.{_journal(self.format)}.part"):
                with open(path, "r+b") as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        continue  # another process is writing it
                    file.truncate(_complete_bytes(file, _journal(self.format)))
                    if file.seek(0, os.SEEK_END):
                        LOG.warning("completing %s, left by a process that died", path)
                        _publish(path, self.format)
                    else:
                        path.unlink()

    def _folder_lock(self) -> BinaryIO:
        """Lock the folder until the returned file is closed, so that no new file is taken for an abandoned one."""
        file = open(self.folder / ".lock", "wb")  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)
        return file


def read_tfrecord(path: str | Path) -> Iterator[Record]:
    """Yield the records of a TFRecord log file. Raises ValueError if it is damaged."""
    with open(path, "rb") as file:
        while header := file.read(12):
            begin, data, check = file.tell() - len(header), b"", b""
            if header[8:] == struct.pack("<I", _masked(header[:8])):  # else the length cannot be trusted
                data, check = file.read(struct.unpack("<Q", header[:8])[0]), file.read(4)
            if check != struct.pack("<I", _masked(data)):
                raise ValueError(f"{path} is damaged in the record at byte {begin}")
            yield protos.features(protos.Example.FromString(data))


def _example_features(value: Any) -> Record | None:
    """Return the features of a serialized tf.Example; None if `value` is not one."""
    if not isinstance(value, bytes):
        return None
    try:
        example = protos.Example.FromString(value)
    except Exception:  # protobuf's DecodeError has no public name in all its implementations
        return None
    return protos.features(example) or None


def _outputs(value: Any) -> Record:
    if isinstance(value, dict):
        return {f"prediction/{name}": _flat(inner) for name, inner in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], tuple):  # a classification
        labels, scores = zip(*value, strict=True)
        return {"prediction/classes": list(labels), "prediction/scores": list(scores)}
    return {"prediction/value": _flat(value)}


def _flat(value: Any) -> list[Value]:
    if isinstance(value, (list, tuple)):
        return [leaf for inner in value for leaf in _flat(inner)]
    return [] if value is None else [value]


def _journal(file_format: str) -> str:
    """Return the format in which a file is written until it is complete."""
    return "jsonl" if file_format == "parquet" else file_format


def _frame(file_format: str, record: Record) -> bytes:
    if file_format == "tfrecord":
        data = protos.example(record).SerializeToString()
        length = struct.pack("<Q", len(data))
        return length + struct.pack("<I", _masked(length)) + data + struct.pack("<I", _masked(data))
    return json.dumps({name: [_plain(value) for value in values] for name, values in record.items()}).encode() + b"\n"


def _plain(value: Value) -> str | int | float:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _complete_bytes(file: BinaryIO, file_format: str) -> int:
    """Return how many bytes of an interrupted file are complete records."""
    if file_format == "jsonl":
        return file.read().rfind(b"\n") + 1
    size, end = os.fstat(file.fileno()).st_size, 0
    while end + 12 <= size:
        file.seek(end)
        following = end + 16 + struct.unpack("<Q", file.read(8))[0]
        if following > size:
            break
        end = following
    return end


def _publish(part: Path, file_format: str) -> Path:
    """Give a complete file its final name, and return that."""
    final = part.with_name(part.name.removeprefix(".").removesuffix(".part"))
    if file_format == "parquet":
        try:
            final = _to_parquet(part, final.with_suffix(".parquet"))
            part.unlink()
            return final
        except Exception as error:  # the predictions must not be lost, so they stay JSON lines
            LOG.error("%s stays JSON lines: %s", final, error)
    part.rename(final)
    _sync(final.parent)
    return final


def _to_parquet(journal: Path, final: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open(journal, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    columns = sorted({name for row in rows for name in row})
    table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in columns})
    temporary = final.with_name(f".{final.name}.new")
    pq.write_table(table, temporary)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    temporary.rename(final)
    _sync(final.parent)
    return final


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _crc32c(data: bytes) -> int:
    try:
        import google_crc32c
    except ImportError:
        raise ImportError("TFRecord needs google-crc32c: install nightly-client[tfrecord], or log as jsonl") from None
    return google_crc32c.value(data)


def _masked(data: bytes) -> int:
    crc = _crc32c(data)
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF
