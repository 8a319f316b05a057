"""Check the columns that a config names against the text of the model's curated schema, without TFDV."""

import keyword
import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from nightly.io import pbtxt
from nightly.io.hints import did_you_mean
from nightly.records.base import ContractError
from nightly.records.config import ModelConfig
from nightly.records.data_config import Data
from nightly.records.label_config import BinaryLabel, ClassesLabel
from nightly.records.label_spec import OTHER
from nightly.records.metrics import likeliest

# The fields of TFDV's Schema and Feature, to report a misspelt one now and not in the first task that reads it.
SCHEMA_FIELDS = (
    *("feature", "sparse_feature", "weighted_feature", "string_domain", "float_domain", "int_domain"),
    *("default_environment", "annotation", "dataset_constraints", "tensor_representation_group"),
    "represent_variable_length_as_ragged",
)
FEATURE_FIELDS = (
    *("name", "deprecated", "presence", "group_presence", "shape", "value_count", "value_counts", "type", "domain"),
    *("int_domain", "float_domain", "string_domain", "bool_domain", "struct_domain", "natural_language_domain"),
    *("image_domain", "mid_domain", "url_domain", "time_domain", "time_of_day_domain", "distribution_constraints"),
    *("annotation", "skew_comparator", "drift_comparator", "in_environment", "not_in_environment", "lifecycle_stage"),
    *("unique_constraints", "content_chunk_domain", "video_domain", "audio_domain", "sequence_metadata"),
    "validation_derived_source",
)

MAX_CLASSES = 10_000
NUMBERS = ("INT", "FLOAT")
NO_FEATURES = ("self", *keyword.kwlist)  # TensorFlow's signatures pass features as parameters of Python's functions

_parse = lru_cache(maxsize=8)(pbtxt.parse)  # a step reads its config many times


@dataclass(frozen=True)
class CuratedSchema:
    """The features in a schema's text. Its methods raise ContractError if the text is not a schema."""

    path: Path
    text: str

    @cached_property
    def features(self) -> dict[str, pbtxt.Field]:
        """Feature name -> its field in the text."""
        return {self._scalar(feature, "name"): feature for feature in self._root.all("feature")}

    def comparators(self, kind: str) -> list[str]:
        """Return the features with a drift or skew comparator."""
        return [name for name, feature in self.features.items() if feature.one(f"{kind}_comparator")]

    def feature_type(self, name: str) -> str:
        """Return INT, FLOAT, BYTES or STRUCT."""
        return self._scalar(self.features[name], "type")

    def values(self, name: str) -> list[str]:
        """Return the values of a text feature's domain, or [] if it has none."""
        feature = self.features[name]
        domain = feature.one("string_domain")
        if named := self._scalar(feature, "domain"):
            shared = self._root.all("string_domain")
            domain = next((candidate for candidate in shared if self._scalar(candidate, "name") == named), None)
        return [pbtxt.read(self.text, value) for value in domain.all("value")] if domain else []

    def classes(self, name: str) -> list[str]:
        """Return the values of a text feature's domain, or all whole numbers of an INT feature's domain, or []."""
        domain = self.features[name].one("int_domain")
        if not domain:
            return self.values(name)
        low, high = self._scalar(domain, "min"), self._scalar(domain, "max")
        if not (low and high) or not 0 <= int(high) - int(low) < MAX_CLASSES:
            return []
        return [str(number) for number in range(int(low), int(high) + 1)]

    def several(self, name: str) -> str:
        """Return `a list`, `bytes` or `long text`, or "" if a row has a single number or short text."""
        feature = self.features[name]
        count, shape = feature.one("value_count"), feature.one("shape")
        sizes = [self._scalar(dim, "size") for dim in shape.all("dim")] if shape else []
        if any(size != "1" for size in sizes) or (not shape and count and self._scalar(count, "max") != "1"):
            return "a list"
        tags = [self._scalar(note, "tag") for note in feature.all("annotation")]
        if any(map(feature.one, ("image_domain", "audio_domain", "video_domain"))) or "bytes" in tags:
            return "bytes"
        return "long text" if feature.one("natural_language_domain") else ""

    @cached_property
    def _root(self) -> pbtxt.Field:
        try:
            root = _parse(self.text)
        except pbtxt.TextFormatError as error:
            raise ContractError(f"{self.path} is not a schema in text format: {error}") from None
        fields: list[tuple[pbtxt.Field, tuple[str, ...], str]]
        fields = [(field, SCHEMA_FIELDS, "a schema") for field in root.fields]
        fields += [(field, FEATURE_FIELDS, "a feature") for feature in root.all("feature") for field in feature.fields]
        for field, known, owner in fields:
            if field.name not in known:
                line = self.text.count("\n", 0, field.start) + 1
                hint = did_you_mean(field.name, list(known))
                raise ContractError(f"{self.path}, line {line}: {owner} has no field {field.name!r}{hint}")
        return root

    def _scalar(self, message: pbtxt.Field, name: str) -> str:
        field = message.one(name)
        return pbtxt.read(self.text, field) if field else ""


def misnamed(config: ModelConfig, schema: CuratedSchema) -> list[str]:
    """Return a line for each column of the config that the curated schema contradicts."""
    data, features = config.data, schema.features
    problems, where = [], schema.path.name
    if data.label.column not in features:
        hint = did_you_mean(data.label.column, list(features))
        problems.append(f"data.label.column: {where} has no feature {data.label.column!r}{hint}")
    else:
        problems += [*_impossible_labels(data, schema), *_always_one(config, schema)]
    if data.weight_column:
        problems += _impossible_weights(data.weight_column, schema)
    times = [data.time_column] if data.time_column else []
    for key, columns in (("data.time_column", times), ("data.id_columns", data.id_columns)):
        for column in columns:
            if column not in features and column not in data.ignore:
                hint = did_you_mean(column, [*features, *data.ignore])
                problems.append(
                    f"{key}: {column!r} is not a feature of {where}, and not in data.ignore: add it to either{hint}"
                )
    inputs = [name for name in features if name not in (data.label.column, data.weight_column, *data.ignore)]
    problems += [
        f"data.rename: {where} has a feature {name!r}, a name that no tensor of a signature can have: give it another"
        for name in inputs
        if name in NO_FEATURES
    ]
    problems += _impossible_slices(config, schema, inputs)
    for key, column in (("label.column", data.label.column), ("weight_column", data.weight_column)):
        if column in features and (what := schema.several(column)) in ("a list", "bytes"):
            problems.append(f"data.{key}: {column} is {what} in {where}, and must be one value a row")
    return problems


def _impossible_slices(config: ModelConfig, schema: CuratedSchema, inputs: list[str]) -> list[str]:
    """Return a line for each column to slice by that is no single value of an input."""
    data, where, problems = config.data, schema.path.name, []
    for column in config.model_gate.slices:
        if column == data.label.column or column in data.ignore:
            problem = "the label" if column == data.label.column else "ignored, so examples are without it"
            problems.append(f"{column!r} is {problem}: slice by another")
        elif column not in inputs:
            problems.append(f"{where} has no feature {column!r}{did_you_mean(column, inputs)}")
        elif what := schema.several(column):
            problems.append(f"{column!r} is {what} in {where}: slice by a single number or text")
    return [f"model_gate.slices: {problem}" for problem in problems]


def _impossible_labels(data: Data, schema: CuratedSchema) -> list[str]:
    """Return a line for each part of data.label that the label's type or domain in the schema rules out."""
    label, column, where = data.label, data.label.column, schema.path.name
    label_type, problems = schema.feature_type(column), []
    if isinstance(label, BinaryLabel):
        problems += _impossible_positives(label, schema)
    elif isinstance(label, ClassesLabel):
        if label_type == "FLOAT":
            problems.append(f"kind: classes are text or whole numbers, and {column} is of type FLOAT in {where}")
        elif label.classes == "schema" and len(schema.classes(column)) < 2:
            problems.append(
                f"classes: {column} has no domain of two classes or more in {where}: give it a string_domain, or an "
                'int_domain with min and max; or set classes = "learned"'
            )
        elif label.classes == "schema" and OTHER in schema.classes(column):
            problems.append(
                f"classes: {column} has a class {OTHER!r} in {where}, the name of what is in no class: give it another"
            )
    elif label_type not in NUMBERS:
        problems.append(f"kind: {column} is of type {label_type} in {where}, and not a number: make it INT or FLOAT")
    return [f"data.label.{problem}" for problem in problems]


def _impossible_positives(label: BinaryLabel, schema: CuratedSchema) -> list[str]:
    column, where, problems = label.column, schema.path.name, []
    label_type, values = schema.feature_type(column), schema.values(column)
    for value in label.positive:
        if values and value not in values:
            problems.append(f"positive: {column} has no value {value!r} in {where}{did_you_mean(value, values)}")
        elif label_type in NUMBERS and not _is_number(value, label_type):
            problems.append(f"positive: {value!r} is not of type {label_type}, which {column} has in {where}")
        elif label_type == "FLOAT" and not _is_float32(float(value)):
            problems.append(
                f"positive: training reads {column} as float32, which rounds {value!r} to another number: name one "
                "that float32 has, such as 1 or 0.5, or make the label a text"
            )
    return problems


def _always_one(config: ModelConfig, schema: CuratedSchema) -> list[str]:
    """Return a line for each bounded metric that looks for the label among all classes. Learned ones are not known."""
    label, gate = config.data.label, config.model_gate
    if not isinstance(label, ClassesLabel) or label.classes == "learned":
        return []
    count = len(schema.classes(label.column))
    return [
        f"model_gate.{section}: {name} is always 1, as {label.column} has {count} classes in {schema.path.name}: "
        "bound another metric"
        for section, bounds in (("metrics", gate.metrics), ("slice_metrics", gate.slice_metrics))
        for name in bounds
        if 1 < count <= likeliest(name)
    ]


def _impossible_weights(column: str, schema: CuratedSchema) -> list[str]:
    """Return a line for a weight column that the schema lacks, or that is not a number there."""
    where = schema.path.name
    if column not in schema.features:
        hint = did_you_mean(column, list(schema.features))
        return [f"data.weight_column: {where} has no feature {column!r}{hint}"]
    if (kind := schema.feature_type(column)) not in NUMBERS:
        return [f"data.weight_column: {column} is of type {kind} in {where}, and not a number: make it INT or FLOAT"]
    return []


def _is_float32(value: float) -> bool:
    """Return whether float32 has exactly this number."""
    try:
        return struct.unpack("f", struct.pack("f", value))[0] == value
    except OverflowError:
        return False


def _is_number(text: str, feature_type: str) -> bool:
    try:
        {"INT": int, "FLOAT": float}[feature_type](text)
    except ValueError:
        return False
    return True
