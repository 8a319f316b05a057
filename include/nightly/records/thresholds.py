"""All thresholds of a night, and their changes since another night."""

import hashlib
import json
from typing import Any, ClassVar

from nightly.records.base import Contract
from nightly.records.config import ModelConfig

Value = float | int | str


class ThresholdsUsed(Contract):
    """The thresholds, by data_gate.…, model_gate.…, drift.FEATURE and skew.FEATURE, as in overrides."""

    FILE: ClassVar = "thresholds.json"  # in the night's folder, by the data gate

    values: dict[str, Value]  # including the overrides of this run
    replaced: list[str] = []  # the keys that this run overrides
    schema_version: int  # 0 is the curated schema
    schema_sha256: str  # of its text, which also holds domains, presence and so on
    code_version: str

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        comparators: dict[str, float],
        *,
        replaced: list[str],
        schema_version: int,
        schema_text: str,
        code_version: str,
    ) -> "ThresholdsUsed":
        """Return the thresholds of a config whose overrides are already applied.

        :param comparators: drift.FEATURE and skew.FEATURE -> threshold
        :param replaced: the keys that the run overrides
        """
        sections = {"data_gate": config.data_gate.model_dump(), "model_gate": config.model_gate.model_dump()}
        return cls(
            values=dict(sorted((_flat(sections) | comparators).items())),
            replaced=sorted(replaced),
            schema_version=schema_version,
            schema_sha256=hashlib.sha256(schema_text.encode()).hexdigest(),
            code_version=code_version,
        )

    @property
    def fingerprint(self) -> str:
        """A hash of the thresholds and the schema's text: equal for nights that used the same."""
        text = json.dumps([self.values, self.schema_sha256], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def changes_since(self, before: "ThresholdsUsed") -> list[str]:
        """Return a short phrase for each difference from `before`."""
        keys = sorted(self.values.keys() | before.values.keys())
        old, new = ([side.values.get(key, "none") for key in keys] for side in (before, self))
        changes = [f"{key} {a} → {b}" for key, a, b in zip(keys, old, new, strict=True) if a != b]
        if self.schema_sha256 != before.schema_sha256:
            versions = f"version {before.schema_version} → {self.schema_version}"
            same = before.schema_version == self.schema_version
            changes.append(f"the schema ({'edited' if same else versions})")
        return changes


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, value in section.items():
        if isinstance(value, dict):
            values |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            values[prefix + name] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return values
