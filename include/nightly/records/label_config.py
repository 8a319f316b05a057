"""The section [data.label] of config.toml: what the model predicts."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from nightly.records.section import Section, without_repeats

Kind = Literal["binary", "classes", "number"]


class BinaryLabel(Section):
    """The model predicts whether the label is one of the `positive` values."""

    kind: Literal["binary"] = "binary"
    """One of two classes."""
    column: str
    """The column with the label."""
    positive: list[str]
    """The values that count as 1. Every other value counts as 0; a row with a blank value has no label."""

    @field_validator("positive")
    @classmethod
    def _some_value_is_positive(cls, positive: list[str]) -> list[str]:
        if not positive:
            raise ValueError(
                "name at least one value of the label that counts as 1: with none, every label is negative"
            )
        if blank := [value for value in positive if not value.strip()]:
            raise ValueError(f"{blank[0]!r} is blank, and a blank value is no label: take it out")
        return without_repeats(positive)


class ClassesLabel(Section):
    """The model predicts which of several classes the label is. Labels are text or whole numbers."""

    kind: Literal["classes"] = "classes"
    """One of several classes."""
    column: str
    """The column with the label. A row with a blank value has no label."""
    classes: Literal["schema", "learned"] = "schema"
    """`schema` takes the classes from the label's domain in the curated schema. `learned` takes the values of the
    training split, the most frequent first."""
    min_class_rows: Annotated[int, Field(ge=1)] = 20
    """Learned classes with fewer rows in the training split share the class `(other)`, and so do new ones."""


class NumberLabel(Section):
    """The model predicts a number."""

    kind: Literal["number"] = "number"
    """A number."""
    column: str
    """The column with the label. A row with a blank value has no label."""
    transform: Literal["none", "log1p"] = "none"
    """`log1p` trains on the logarithm of 1 + label, for labels of 0 and more with a long tail. Serving, metrics and the
    page use the label's own scale."""


Label = Annotated[BinaryLabel | ClassesLabel | NumberLabel, Field(discriminator="kind")]
