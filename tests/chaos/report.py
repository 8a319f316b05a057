"""What a campaign has found: a table of the faults, and each violation, as Markdown and as JSON.

python -m tests.chaos.report REPORT.json … [--into docs/reliability.md]     several campaigns in one table
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

SECTION = re.compile(r"(?<=<!-- results -->\n).*(?=<!-- end of results -->)", re.S)


@dataclass
class Trial:
    """One fault in one night."""

    fault: str
    run_id: str
    at: float  # seconds after the night's start
    moment: str  # what was waited for
    did: str = ""
    seconds: float | None = None  # until every part answers and a task has succeeded again; None: the night ended first
    outcome: str = ""  # the night's


@dataclass
class NightResult:
    run_id: str
    ordinary: bool  # no fault was meant for it
    outcome: str
    seconds: float
    summary: str


@dataclass
class Violation:
    invariant: str
    what: str
    run_id: str
    faults: list[str]


@dataclass
class Report:
    command: str
    machine: str
    code: str
    trials: list[Trial] = field(default_factory=list)
    nights: list[NightResult] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    not_done: dict[str, str] = field(default_factory=dict)  # fault -> why not
    client: str = ""
    seconds: float = 0

    def save(self, folder: Path) -> None:
        """Write report.json and report.md, replacing those before."""
        (folder / "report.json").write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        (folder / "report.md").write_text(self.markdown())

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read what `save` wrote."""
        data = json.loads(path.read_text())
        kinds = {"trials": Trial, "nights": NightResult, "violations": Violation}
        return cls(**data | {name: [kind(**entry) for entry in data[name]] for name, kind in kinds.items()})

    def summary(self) -> str:
        """The campaign in three sentences."""
        ordinary = [night for night in self.nights if night.ordinary]
        released = sum(night.outcome == "RELEASED" for night in ordinary)
        return (
            f"`{self.command}`: {len(self.trials)} faults in {len(self.nights) - len(ordinary)} nights, "
            f"{len(self.violations)} violations, {self.seconds / 60:.0f} minutes, on {self.machine}, code {self.code}. "
            f"Of {len(ordinary)} ordinary nights {released} were RELEASED. {self.client}"
        )

    def markdown(self) -> str:
        """The report for a person."""
        return markdown([self])


def markdown(reports: list[Report]) -> str:
    """Each campaign in a line, and the faults of all of them in one table."""
    lines = [f"- {report.summary()}" for report in reports]
    by_fault = defaultdict(list)
    for trial in (trial for report in reports for trial in report.trials):
        by_fault[trial.fault].append(trial)
    violations = [violation for report in reports for violation in report.violations]
    struck = Counter(name for violation in violations for name in set(violation.faults))
    lines += [
        "",
        f"Together: {sum(map(len, by_fault.values()))} faults, {len(violations)} violations.",
        "",
        "| fault | trials | what became of the night | recovery, median (longest) | in nights with a violation |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(by_fault):
        trials = by_fault[name]
        outcomes = ", ".join(f"{n} {what}" for what, n in Counter(t.outcome for t in trials).most_common())
        took = [trial.seconds for trial in trials if trial.seconds is not None]
        recovery = f"{statistics.median(took):.0f} s ({max(took):.0f} s)" if took else "(the night ended first)"
        lines.append(f"| {name} | {len(trials)} | {outcomes} | {recovery} | {struck[name] or 0} |")
    not_done = {name: why for report in reports for name, why in report.not_done.items() if name not in by_fault}
    for name, why in sorted(not_done.items()):
        lines.append(f"| {name} | 0 | not tried: {why.splitlines()[0]} | | |")
    if violations:
        lines += ["", "| violated | what | run | faults of its night |", "|---|---|---|---|"]
    for v in violations:
        what = " ".join(v.what.split()).replace("|", "\\|")[:300]
        lines.append(f"| {v.invariant} | {what} | {v.run_id} | {', '.join(v.faults)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.chaos.report", description="Several campaigns in one table.")
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT.json")
    parser.add_argument("--into", type=Path, help="a page that has a section for it")
    given = parser.parse_args()
    text = markdown([Report.load(path) for path in given.reports])
    if given.into is None:
        print(text)
    else:
        given.into.write_text(SECTION.sub(lambda _: text, given.into.read_text()))


if __name__ == "__main__":
    main()
