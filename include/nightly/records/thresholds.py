"""The thresholds that a night was judged by, all of them, and what changed since another night."""

import hashlib
import json
from typing import Any

from nightly.records.base import Contract
from nightly.records.config import ModelConfig

FILE = "thresholds.json"  # in the night's folder, by the data gate

Value = float | int | str


class ThresholdsUsed(Contract):
    """Keys are those of a run's own thresholds: data_gate.…, model_gate.…, drift.FEATURE and skew.FEATURE."""

    values: dict[str, Value]  # with those that were replaced for this run
    replaced: list[str] = []  # of them, for this run only
    schema_version: int  # 0 is the curated schema
    schema_sha256: str  # of its text: domains, presence and all else that is no number of its own
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
        """Of a config that has the run's own already.

        :param comparators: drift.FEATURE and skew.FEATURE -> threshold
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
        """The same for nights that were judged by the same: of the thresholds and of the schema's text."""
        said = json.dumps([self.values, self.schema_sha256], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    def changes_since(self, before: "ThresholdsUsed") -> list[str]:
        """What is not as it was, a few words each; [] where all is."""
        keys = sorted(self.values.keys() | before.values.keys())
        old, new = ([side.values.get(key, "none") for key in keys] for side in (before, self))
        found = [f"{key} {a} → {b}" for key, a, b in zip(keys, old, new, strict=True) if a != b]
        if self.schema_sha256 != before.schema_sha256:
            versions = f"version {before.schema_version} → {self.schema_version}"
            same = before.schema_version == self.schema_version
            found.append(f"the schema ({'edited' if same else versions})")
        return found


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name, value in section.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            found[prefix + name] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return found
