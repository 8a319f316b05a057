"""The address of a call: model and version."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """A model and one of its versions: the newest if there is neither a version nor a label."""

    model: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ValueError(f"address {self.model} by version or by label, not by both")
