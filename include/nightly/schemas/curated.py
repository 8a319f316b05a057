"""Read the curated schema (the one that people maintain), and refuse comparators that would measure nothing."""

import contextlib
import hashlib
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.io.errors import UserError
from nightly.records.label_config import ClassesLabel, Label
from nightly.schemas.features import contradictions

KINDS = ("drift", "skew")


class SchemaError(UserError, ValueError):
    """A schema is not usable. The message names the feature and what to write instead."""


def read_schema(path: Path) -> schema_pb2.Schema:
    """Return the schema in the text file `path`, or in schema.pbtxt of the folder `path`.

    Raises FileNotFoundError or SchemaError.
    """
    path = Path(path)
    path = path / "schema.pbtxt" if path.is_dir() else path
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        raise SchemaError(f"{path} is not UTF-8: save the file as UTF-8") from None
    return parse_schema(text, where=str(path))


def parse_schema(text: str, *, where: str) -> schema_pb2.Schema:
    """Parse a schema in text format. Raises SchemaError.

    :param where: the text's origin, for messages
    """
    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise SchemaError(f"{where} is not a schema in text format: {error}") from None
    if problems := [problem for feature in schema.feature for problem in contradictions(feature)]:
        raise SchemaError("\n".join(f"{where}: {problem}" for problem in problems))
    problems = [problem for feature in schema.feature for problem in _misfits(feature)]
    if problems:
        raise SchemaError(f"{where}: a comparator does not fit its feature:\n" + "\n".join(f"  {p}" for p in problems))
    return schema


def domain_of(schema: schema_pb2.Schema, name: str) -> list[str] | None:
    """Return the values that a text feature's domain allows; None if it has no domain."""
    feature = next((entry for entry in schema.feature if entry.name == name), None)
    if feature is None:
        return None
    if feature.HasField("string_domain"):
        return list(feature.string_domain.value)
    return next((list(domain.value) for domain in schema.string_domain if domain.name == feature.domain), None)


def classes_of(schema: schema_pb2.Schema, name: str) -> list[str]:
    """Return the classes of a label: its domain's values, or all whole numbers of its int_domain; [] if it has none."""
    for feature in schema.feature:
        if feature.name == name and feature.HasField("int_domain"):
            return [str(number) for number in range(feature.int_domain.min, feature.int_domain.max + 1)]
    return domain_of(schema, name) or []


def recorded_classes(schema: schema_pb2.Schema, label: Label) -> frozenset[str]:
    """Return the only values of the label that count as recorded; empty if all do."""
    of_schema = isinstance(label, ClassesLabel) and label.classes == "schema"
    return frozenset(classes_of(schema, label.column)) if of_schema else frozenset()


def schema_fingerprint(path: Path) -> str:
    """Return a hash of the schema's meaning: comments, whitespace and the file's path do not count."""
    data = path.read_bytes()
    with contextlib.suppress(text_format.ParseError, UnicodeDecodeError):  # reading the schema reports this better
        data = text_format.Parse(data, schema_pb2.Schema()).SerializeToString(deterministic=True)
    return hashlib.sha256(data).hexdigest()


def _misfits(feature: schema_pb2.Feature) -> list[str]:
    """Return a sentence for each comparator whose norm does not fit the feature's type.

    L-infinity compares shares of values. TFDV has no such shares for numbers and always measures 0.
    The Jensen-Shannon divergence compares histograms. Text has no bins, so its thresholds would have another scale.
    """
    categorical = feature.type == schema_pb2.BYTES
    fits, misfit = ("infinity_norm", "jensen_shannon_divergence")[:: 1 if categorical else -1]
    kind = "text, a categorical feature" if categorical else f"a number ({schema_pb2.FeatureType.Name(feature.type)})"
    problems = []
    for name in KINDS:
        comparator = getattr(feature, f"{name}_comparator")
        norms = [norm for norm in (fits, misfit) if comparator.HasField(norm)]
        if misfit in norms:
            threshold = getattr(comparator, misfit).threshold
            problems.append(
                f"{feature.name}: {name}_comparator has {misfit}, but {feature.name} is {kind}; "
                f"write {name}_comparator {{ {fits} {{ threshold: {threshold:g} }} }}, and a threshold of its scale"
            )
        elif feature.HasField(f"{name}_comparator") and not norms:
            problems.append(
                f"{feature.name}: {name}_comparator is empty; "
                f"write {name}_comparator {{ {fits} {{ threshold: … }} }}, or leave it out"
            )
    return problems


def threshold_of(feature: schema_pb2.Feature, kind: str) -> float | None:
    """Return the threshold of the feature's drift or skew comparator, or None if it has no such comparator."""
    if not feature.HasField(f"{kind}_comparator"):
        return None
    comparator = getattr(feature, f"{kind}_comparator")
    norm = "infinity_norm" if comparator.HasField("infinity_norm") else "jensen_shannon_divergence"
    return getattr(comparator, norm).threshold


def comparators(schema: schema_pb2.Schema) -> dict[str, float]:
    """Return "drift.FEATURE" or "skew.FEATURE" -> threshold, for every comparator."""
    thresholds = {f"{kind}.{feature.name}": threshold_of(feature, kind) for feature in schema.feature for kind in KINDS}
    return {key: threshold for key, threshold in thresholds.items() if threshold is not None}


def set_threshold(feature: schema_pb2.Feature, kind: str, threshold: float) -> None:
    """Replace the threshold of the feature's existing comparator."""
    comparator = getattr(feature, f"{kind}_comparator")
    norm = "infinity_norm" if comparator.HasField("infinity_norm") else "jensen_shannon_divergence"
    getattr(comparator, norm).threshold = threshold


def override_thresholds(schema: schema_pb2.Schema, thresholds: dict[str, float]) -> None:
    """Replace thresholds in `schema`. Raises SchemaError if a feature has no such comparator.

    :param thresholds: "drift.FEATURE" or "skew.FEATURE" -> threshold; other keys are ignored
    """
    for key, threshold in thresholds.items():
        kind, _, name = key.partition(".")
        if kind not in KINDS:
            continue
        compared = {feature.name: feature for feature in schema.feature if feature.HasField(f"{kind}_comparator")}
        if name not in compared:
            raise SchemaError(
                f"threshold {key}: the schema has a {kind} comparator for {', '.join(sorted(compared))} only"
            )
        set_threshold(compared[name], kind, threshold)
