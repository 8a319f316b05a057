"""What a call is addressed to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """Which model, and which of its versions; the newest when neither version nor label is given."""

    model: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ValueError(f"address {self.model} by version or by label, not by both")
