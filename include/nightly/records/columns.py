"""Compares the columns that a config names with the model's curated schema, by the schema's text: without TFDV."""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from nightly.io import pbtxt
from nightly.io.hints import did_you_mean
from nightly.records.base import ContractError

if TYPE_CHECKING:
    from nightly.records.config import ModelConfig
    from nightly.records.source_config import Data

# The fields of TFDV's Schema and Feature: a misspelt one is named at once, not by the first task that reads it.
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


def column_name(header: str) -> str:
    """Return the column that a header becomes without a `rename`: in snake_case."""
    return re.sub(r"[^a-z0-9]+", "_", header.strip().lower()).strip("_")


_parse = lru_cache(maxsize=8)(pbtxt.parse)  # a step reads its config again and again


@dataclass(frozen=True)
class CuratedSchema:
    """What a schema's text says of its features. Raises ContractError where it is no schema."""

    path: Path
    text: str

    @cached_property
    def features(self) -> dict[str, pbtxt.Field]:
        """Each feature by its name."""
        return {self._scalar(feature, "name"): feature for feature in self._root.all("feature")}

    def comparators(self, kind: str) -> list[str]:
        """Return the features with a drift or skew comparator."""
        return [name for name, feature in self.features.items() if feature.one(f"{kind}_comparator")]

    def type(self, name: str) -> str:
        return self._scalar(self.features[name], "type")

    def values(self, name: str) -> list[str]:
        """Return the values that a text feature may have; [] where it has no domain."""
        feature = self.features[name]
        domain = feature.one("string_domain")
        if named := self._scalar(feature, "domain"):
            domain = next((one for one in self._root.all("string_domain") if self._scalar(one, "name") == named), None)
        return [pbtxt.read(self.text, value) for value in domain.all("value")] if domain else []

    @cached_property
    def _root(self) -> pbtxt.Field:
        try:
            root = _parse(self.text)
        except pbtxt.TextFormatError as error:
            raise ContractError(f"{self.path} is not a schema in text format: {error}") from None
        features = [(one, FEATURE_FIELDS, "a feature") for feature in root.all("feature") for one in feature.fields]
        for one, known, where in [*((one, SCHEMA_FIELDS, "a schema") for one in root.fields), *features]:
            if one.name not in known:
                line = self.text.count("\n", 0, one.start) + 1
                hint = did_you_mean(one.name, list(known))
                raise ContractError(f"{self.path}, line {line}: {where} has no field {one.name!r}{hint}")
        return root

    def _scalar(self, message: pbtxt.Field, name: str) -> str:
        place = message.one(name)
        return pbtxt.read(self.text, place) if place else ""


def misnamed(config: "ModelConfig", schema: CuratedSchema) -> list[str]:
    """Return a line for each column of the config that the curated schema contradicts."""
    data, features = config.data, schema.features
    wrong, where = [], schema.path.name
    if data.label.column not in features:
        hint = did_you_mean(data.label.column, list(features))
        wrong.append(f"data.label.column: {where} has no feature {data.label.column!r}{hint}")
    else:
        wrong += _impossible_labels(data, schema)
    for key, columns in (("data.time_column", [data.time_column]), ("data.id_columns", data.id_columns)):
        for column in columns:
            if column not in features and column not in data.ignore:
                hint = did_you_mean(column, [*features, *data.ignore])
                wrong.append(
                    f"{key}: {column!r} is no feature of {where}, and not in data.ignore: name it in one{hint}"
                )
    inputs = [name for name in features if name not in (data.label.column, *data.ignore)]
    for column in config.model_gate.slices:
        if column == data.label.column or column in data.ignore:
            why = "the label" if column == data.label.column else "ignored, so examples are without it"
            wrong.append(f"model_gate.slices: {column!r} is {why}: slice by another")
        elif column not in inputs:
            wrong.append(f"model_gate.slices: {where} has no feature {column!r}{did_you_mean(column, inputs)}")
    return wrong


def _impossible_labels(data: "Data", schema: CuratedSchema) -> list[str]:
    """The values of `positive` that the label's type or domain rules out: every row would be negative."""
    column, kind, values = data.label.column, schema.type(data.label.column), schema.values(data.label.column)
    wrong = []
    for value in data.label.positive:
        if values and value not in values:
            wrong.append(f"{column} has no value {value!r} in {schema.path.name}{did_you_mean(value, values)}")
        elif kind in ("INT", "FLOAT") and not _is_number(value, kind):
            wrong.append(f"{value!r} is no {kind}, which {column} is in {schema.path.name}")
    return [f"data.label.positive: {line}" for line in wrong]


def _is_number(text: str, kind: str) -> bool:
    try:
        {"INT": int, "FLOAT": float}[kind](text)
    except ValueError:
        return False
    return True
