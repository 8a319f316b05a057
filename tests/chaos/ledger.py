"""What the faults did that the checks must know, so that they tell a consequence from a violation."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Ledger:
    damaged_files: set[str] = field(default_factory=set)  # hashes of what no version may ever be released with
    damaged_versions: set[int] = field(default_factory=set)  # of the serving volume; until they are mended or gone
    damaged_snapshots: dict[str, float] = field(default_factory=dict)  # id -> when, in Unix seconds
    withdrawn_runs: set[str] = field(default_factory=set)  # whose version somebody may have taken back
    more_runs: list[str] = field(default_factory=list)  # of the nights' DAG, that a fault has started
