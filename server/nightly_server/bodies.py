"""Request bodies, read within limits and decompressed."""

import asyncio
import os
import tempfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

import grpc
from aiohttp import web

from nightly_server import limits
from nightly_server.errors import ServingError, invalid

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE = -15  # without zlib's header, as some clients send it

Body = bytes | BinaryIO  # a large body is in a file, outside this process' memory


def scratch_file() -> BinaryIO:
    """Return a file in memory, or a temporary file where the system has none."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("serving"), "w+b")
    return tempfile.TemporaryFile()


class BodyReader:
    """Reads bodies of at most `max_bytes`, each within `seconds` plus one second for each MiB."""

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._held = 0

    @asynccontextmanager
    async def reading(self, request: web.Request) -> AsyncIterator[Body]:
        """Yield the body, which is freed after the block.

        Raise TimeoutError, HTTPRequestEntityTooLarge, or ServingError (UNAVAILABLE) beyond `MAX_HELD_BYTES`.
        """
        encoded = request.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")
        max_bytes = min(self._max_bytes, limits.MAX_INFLATED_BYTES) if encoded else self._max_bytes
        if (request.content_length or 0) > max_bytes:
            raise web.HTTPRequestEntityTooLarge(max_bytes, request.content_length)
        chunks, file, received, held = [], None, 0, 0
        until = asyncio.get_running_loop().time() + self._seconds
        try:
            while True:
                async with asyncio.timeout_at(until + received / limits.BYTES_PER_SECOND):
                    chunk = await request.content.readany()
                if not chunk:
                    break
                received += len(chunk)
                if received > max_bytes:
                    raise web.HTTPRequestEntityTooLarge(max_bytes, received)
                chunks.append(chunk)
                if file is None and received <= limits.LARGE_BODY_BYTES:
                    continue
                file = file or scratch_file()
                file.writelines(chunks)
                chunks.clear()
                self._held += received - held
                held = received
                if self._held > limits.MAX_HELD_BYTES:
                    raise ServingError(grpc.StatusCode.UNAVAILABLE, "Too many large requests at once")
            yield file or b"".join(chunks)
        finally:
            self._held -= held
            if file is not None:
                file.close()


def inflate(body: Body, encoding: str, max_bytes: int) -> Body:
    """Return the whole decompressed body.

    Raise ServingError (INVALID_ARGUMENT), or HTTPRequestEntityTooLarge beyond `max_bytes`.
    """
    encoding = encoding.strip().lower()
    if not body or encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW_BITS:
        raise invalid(f"Content-Encoding {encoding} is not supported: send the body as gzip, as deflate or as it is")
    if not isinstance(body, bytes):
        body.seek(0)
        body = body.read()
    zlib_header = body[0] & 0x0F == zlib.DEFLATED
    raw = encoding == "deflate" and not zlib_header
    inflater = zlib.decompressobj(_RAW_DEFLATE if raw else _WINDOW_BITS[encoding])
    try:
        inflated = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise invalid(f"The body is not {encoding}, as its Content-Encoding says: {error}") from None
    if len(inflated) > max_bytes:
        raise web.HTTPRequestEntityTooLarge(max_bytes, len(inflated))
    if not inflater.eof:
        raise invalid(f"The body is not {encoding}, as its Content-Encoding says: it ends too early")
    if inflater.unused_data:
        raise invalid(f"The body is not {encoding}, as its Content-Encoding says: it goes on after its end")
    if len(inflated) <= limits.LARGE_BODY_BYTES:
        return inflated
    file = scratch_file()
    file.write(inflated)
    return file
