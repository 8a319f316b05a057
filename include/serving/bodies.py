"""Request bodies as they were before their Content-Encoding."""

import zlib

from aiohttp import web

from include.serving.errors import invalid

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE = -15  # without zlib's header, as some clients send it


def inflate(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The whole body at once: one that does not decode is an error, not a stream that never ends.

    Raises ServingError (INVALID_ARGUMENT), or HTTPRequestEntityTooLarge beyond `max_bytes`.
    """
    encoding = encoding.strip().lower()
    if not body or encoding in ("", "identity"):
        return body
    if encoding not in _WINDOW_BITS:
        raise invalid(f"Content-Encoding {encoding} is not supported: send the body as gzip, as deflate or as it is")
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
    return inflated
