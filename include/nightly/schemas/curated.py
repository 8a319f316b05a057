"""The curated schema: read, and refused where a comparator would measure nothing."""

import contextlib
import hashlib
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.io.errors import UserError

KINDS = ("drift", "skew")


class SchemaError(UserError, ValueError):
    """A schema that cannot be used; the message names the feature and what to write instead."""


def read_schema(path: Path) -> schema_pb2.Schema:
    """The schema in text format at `path`, or in schema.pbtxt of that folder. Raises FileNotFoundError, SchemaError."""
    path = Path(path)
    path = path / "schema.pbtxt" if path.is_dir() else path
    return parse_schema(path.read_text(), where=str(path))


def parse_schema(text: str, *, where: str) -> schema_pb2.Schema:
    """The schema in text format that came from `where`. Raises SchemaError."""
    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise SchemaError(f"{where} is not a schema in text format: {error}") from None
    wrong = [problem for feature in schema.feature for problem in _misfits(feature)]
    if wrong:
        raise SchemaError(f"{where}: a comparator does not fit its feature:\n" + "\n".join(f"  {w}" for w in wrong))
    return schema


def schema_fingerprint(path: Path) -> str:
    """A hash of what the schema at `path` means: comments, spaces and where the file is do not count."""
    data = path.read_bytes()
    with contextlib.suppress(text_format.ParseError, UnicodeDecodeError):  # who uses it says so better
        data = text_format.Parse(data, schema_pb2.Schema()).SerializeToString(deterministic=True)
    return hashlib.sha256(data).hexdigest()


def _misfits(feature: schema_pb2.Feature) -> list[str]:
    """L-infinity compares shares of values; of numbers TFDV has none, and says 0 whatever happens. A number's
    histogram has a Jensen-Shannon divergence; of text it has no bins, and the schema's figures would not compare.
    """
    categorical = feature.type == schema_pb2.BYTES
    fits, misfit = ("infinity_norm", "jensen_shannon_divergence")[:: 1 if categorical else -1]
    kind = "text, a categorical feature" if categorical else f"a number ({schema_pb2.FeatureType.Name(feature.type)})"
    wrong = []
    for name in KINDS:
        comparator = getattr(feature, f"{name}_comparator")
        given = [one for one in ("infinity_norm", "jensen_shannon_divergence") if comparator.HasField(one)]
        if misfit in given:
            threshold = getattr(comparator, misfit).threshold
            wrong.append(
                f"{feature.name}: {name}_comparator has {misfit}, but {feature.name} is {kind}; "
                f"write {name}_comparator {{ {fits} {{ threshold: {threshold:g} }} }}, and a threshold of its scale"
            )
        elif feature.HasField(f"{name}_comparator") and not given:
            wrong.append(
                f"{feature.name}: {name}_comparator is empty; "
                f"write {name}_comparator {{ {fits} {{ threshold: … }} }}, or leave it out"
            )
    return wrong


def threshold_of(feature: schema_pb2.Feature, kind: str) -> float | None:
    """The threshold of the feature's drift or skew comparator; None where it has none."""
    if not feature.HasField(f"{kind}_comparator"):
        return None
    comparator = getattr(feature, f"{kind}_comparator")
    norm = "infinity_norm" if comparator.HasField("infinity_norm") else "jensen_shannon_divergence"
    return getattr(comparator, norm).threshold


def comparators(schema: schema_pb2.Schema) -> dict[str, float]:
    """Every comparator's threshold, as "drift.FEATURE" and "skew.FEATURE"."""
    known = {f"{kind}.{feature.name}": threshold_of(feature, kind) for feature in schema.feature for kind in KINDS}
    return {key: threshold for key, threshold in known.items() if threshold is not None}


def set_threshold(feature: schema_pb2.Feature, kind: str, threshold: float) -> None:
    """Replace the threshold of a comparator that the feature has."""
    comparator = getattr(feature, f"{kind}_comparator")
    norm = "infinity_norm" if comparator.HasField("infinity_norm") else "jensen_shannon_divergence"
    getattr(comparator, norm).threshold = threshold


def override_thresholds(schema: schema_pb2.Schema, thresholds: dict[str, float]) -> None:
    """Put `thresholds` ("drift.FEATURE" or "skew.FEATURE" -> threshold; other keys are not for a schema) in place."""
    for key, threshold in thresholds.items():
        kind, _, name = key.partition(".")
        if kind not in KINDS:
            continue
        having = {feature.name: feature for feature in schema.feature if feature.HasField(f"{kind}_comparator")}
        if name not in having:
            raise SchemaError(
                f"threshold {key}: the schema has a {kind} comparator for {', '.join(sorted(having))} only"
            )
        set_threshold(having[name], kind, threshold)
