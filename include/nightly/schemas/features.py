"""What a feature of the curated schema is: a number, text, a list, a vector, long text, or bytes such as an image.

    in the schema                                              in a snapshot          in tf.Example
    type: INT | FLOAT | BYTES                                  int64, float, string   at most one value
    + value_count { min: 1 } or max: above 1                   list<…>                any number of values
    + shape { dim { size: N } }                                list<…>                exactly N values
    type: BYTES image_domain {} (audio_domain, video_domain)   binary                 at most one value
    type: BYTES annotation { tag: "bytes" }                    binary                 at most one value
    type: BYTES natural_language_domain {}                     string                 at most one value

The first three are TFDV's own: its inference writes `value_count { min: 1 }` for lists of any length.
"""

import math
import re
import zlib
from collections.abc import Callable
from typing import Literal

from tensorflow_metadata.proto.v0 import schema_pb2

START = 8  # bytes quoted of a value that is no image
Sized = Literal["image", "bytes", "text", "list"]

BYTES_TAG = "bytes"
MEDIA = ("image_domain", "audio_domain", "video_domain")
ELEMENTS = {schema_pb2.INT: "int64", schema_pb2.FLOAT: "float"}
# The first bytes of each format that tf.io.decode_image reads.
IMAGE_FORMATS = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "gif": b"GIF8", "bmp": b"BM"}
# A marker of JPEG that is no part of compressed pixels. There, a byte of 255 is followed by 0 or a restart marker.
JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)
JPEG_SCAN, JPEG_END = b"\xda", b"\xd9"
ANCILLARY = 0x20  # this bit of a PNG chunk's first letter: decoders do without the chunk if it is damaged


def shape_of(feature: schema_pb2.Feature) -> tuple[int, ...] | None:
    """Return the sizes of the feature's dimensions; None without a shape."""
    return tuple(dim.size for dim in feature.shape.dim) if feature.HasField("shape") else None


def length_of(feature: schema_pb2.Feature) -> int | None:
    """Return how many values each row must have; None if the schema does not fix it above one."""
    shape, count = shape_of(feature), feature.value_count
    if shape is not None:
        return math.prod(shape) if is_list(feature) else None
    return count.max if is_list(feature) and count.min == count.max else None


def is_list(feature: schema_pb2.Feature) -> bool:
    """Return whether a row may have several values."""
    shape = shape_of(feature)
    if shape is not None:
        return math.prod(shape) != 1
    return feature.HasField("value_count") and feature.value_count.max != 1


def is_bytes(feature: schema_pb2.Feature) -> bool:
    """Return whether the values are bytes of no text, such as images."""
    return feature.WhichOneof("domain_info") in MEDIA or BYTES_TAG in feature.annotation.tag


def is_image(feature: schema_pb2.Feature) -> bool:
    return feature.WhichOneof("domain_info") == "image_domain"


def sized_features(schema: schema_pb2.Schema) -> dict[str, Sized]:
    """Return the features that are measured by size: values that hardly repeat by theirs, lists by their lengths."""
    sized: dict[str, Sized] = {}
    for feature in schema.feature:
        if is_bytes(feature):
            sized[feature.name] = "image" if is_image(feature) else "bytes"
        elif feature.WhichOneof("domain_info") == "natural_language_domain":
            sized[feature.name] = "text"
        elif is_list(feature) and not length_of(feature):
            sized[feature.name] = "list"
    return sized


def column_type(feature: schema_pb2.Feature) -> str:
    """Return the feature's type in a snapshot, a key of nightly.snapshots.types.TYPES."""
    element = "binary" if is_bytes(feature) else ELEMENTS.get(feature.type, "string")
    return f"list<{element}>" if is_list(feature) else element


def contradictions(feature: schema_pb2.Feature) -> list[str]:
    """Return a sentence for each part of the feature that cannot work, with what to write instead."""
    name, shape, domain, problems = feature.name, shape_of(feature), feature.WhichOneof("domain_info"), []
    if feature.HasField("value_counts"):
        problems.append(f"{name}: value_counts, lists in lists, cannot be read: flatten them, and write value_count")
    if shape is not None and not all(shape):
        problems.append(f"{name}: each dim of its shape needs a size; write value_count {{ min: 1 }} for any length")
    elif shape is not None and feature.presence.min_fraction != 1:
        instead = f"value_count {{ min: {math.prod(shape)} max: {math.prod(shape)} }} in place of the shape"
        problems.append(
            f"{name}: a feature with a shape is in every row: add presence {{ min_fraction: 1 }}, or write {instead}"
        )
    if domain in (*MEDIA, "natural_language_domain") and feature.type != schema_pb2.BYTES:
        kind = schema_pb2.FeatureType.Name(feature.type)
        problems.append(f"{name}: {domain} is for BYTES, and {name} is {kind}")
    return problems


def image_format(content: bytes) -> str | None:
    """Return the image's format by its first bytes, or None."""
    return next((name for name, magic in IMAGE_FORMATS.items() if content.startswith(magic)), None)


def image_fault(content: bytes) -> str | None:
    """Return what is wrong with a value that should be a PNG or JPEG image, or None.

    It finds the damage that makes tf.io.decode_image fail, except in a JPEG's pixels, which have no checksum.
    """
    name = image_format(content)
    if name not in FAULTS:
        return f"{len(content):,} bytes that begin with {content[:START]!r}: neither PNG nor JPEG"
    fault = FAULTS[name](content)
    return fault and f"{len(content):,} bytes of a {name.upper()} image that is {fault}"


def _png_fault(content: bytes) -> str | None:
    """Return what is wrong with the chunks, up to the last: each has a length, a type, data and a checksum."""
    start = len(IMAGE_FORMATS["png"])
    while True:
        length, kind = int.from_bytes(content[start : start + 4]), content[start + 4 : start + 8]
        start += 8
        end = start + length
        if len(content) < end + 4:
            return "cut off"
        wrong = zlib.crc32(memoryview(content)[start - 4 : end]) != int.from_bytes(content[end : end + 4])
        if wrong and not kind[0] & ANCILLARY:
            return "damaged: its bytes do not match their checksum"
        if kind == b"IEND":
            return None
        start = end + 4


def _jpeg_fault(content: bytes) -> str | None:
    """Return "cut off" without an end after the pixels. Segments are skipped, as a thumbnail in one has its own end."""
    start, pixels = len(b"\xff\xd8"), False
    while marker := JPEG_MARKER.search(content, start):
        if marker[1] == JPEG_END:
            return None if pixels else "cut off"
        pixels = pixels or marker[1] == JPEG_SCAN
        start = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2])
    return "cut off"


FAULTS: dict[str, Callable[[bytes], str | None]] = {"png": _png_fault, "jpeg": _jpeg_fault}  # the accepted formats
