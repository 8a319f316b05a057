"""The types of a snapshot's columns, by their names in a manifest."""

import pyarrow as pa

TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float": pa.float64(),
    "timestamp": pa.timestamp("us", "UTC"),
    "binary": pa.binary(),
    "list<string>": pa.list_(pa.string()),
    "list<int64>": pa.list_(pa.int64()),
    "list<float>": pa.list_(pa.float32()),  # as in tf.Example: an embedding takes half the space of float64
    "list<binary>": pa.list_(pa.binary()),
}


def is_list(kind: str) -> bool:
    """Return whether a column of this type has several values a row."""
    return kind.startswith("list<")


def is_text(kind: str) -> bool:
    """Return whether a column of this type has one value a row with a text of its own, in which readers may pass it."""
    return not is_list(kind) and kind != "binary"
