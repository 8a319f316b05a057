"""Results as text, as benchmarks/results.json, and as the tables of docs/performance.md."""

import json
import re
from pathlib import Path
from typing import Any

from nightly.io.paths import ROOT

RESULTS = ROOT / "benchmarks/results.json"
DOCUMENT = ROOT / "docs/performance.md"


def keep(name: str, result: dict[str, Any], results: Path = RESULTS, document: Path = DOCUMENT) -> None:
    """Put a benchmark's result in the place of its last one, in the JSON and in the document."""
    known = json.loads(results.read_text()) if results.exists() else {}
    known[name] = result
    results.write_text(json.dumps(known, indent=1) + "\n")
    write(known, document)


def write(results: dict[str, Any], document: Path = DOCUMENT) -> None:
    """Write the tables of all results between their markers. Raises ValueError for a result without markers."""
    text = document.read_text()
    for name, content in {"goals": all_goals(results), **{n: section(r) for n, r in results.items()}}.items():
        begin, end = f"<!-- {name}: written by `make bench` -->", f"<!-- /{name} -->"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text, places = re.subn(pattern, lambda _, c=f"{begin}\n{content}\n{end}": c, text, count=1, flags=re.DOTALL)
        if not places:
            raise ValueError(f"{document} has no place for {name!r}: add the lines {begin!r} and {end!r}")
    document.write_text(text)


def all_goals(results: dict[str, Any]) -> str:
    """One table of every goal."""
    rows = [
        {"benchmark": name, **_goal_row(goal)} for name, result in sorted(results.items()) for goal in result["goals"]
    ]
    return _table(rows)


def section(result: dict[str, Any]) -> str:
    """A benchmark's tables, and where they were measured."""
    facts = result["facts"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    parts = [f"**{title}**\n\n{_table(rows)}" for title, rows in result["tables"].items()]
    place = f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_gb']} GB, {facts['system']}"
    parts.append(f"Measured {facts['date'][:10]} on {place}; code {facts['code']}; {versions}.")
    return "\n\n".join(parts)


def as_text(name: str, result: dict[str, Any]) -> str:
    """The same for a terminal."""
    parts = [f"{title}\n{_table(rows)}" for title, rows in result["tables"].items()]
    goals = _table([_goal_row(goal) for goal in result["goals"]]) if result["goals"] else ""
    return "\n\n".join([f"{name}: {result['seconds']} s", *parts, *([goals] if goals else []), ""])


def _goal_row(goal: dict[str, Any]) -> dict[str, str]:
    bound = f"at most {goal['at_most']:g}" if goal["at_most"] is not None else f"at least {goal['at_least']:g}"
    found = f"{goal['found']:,.3g}" if goal["found"] < 100 else f"{goal['found']:,.0f}"
    return {
        "what": goal["what"],
        "goal": f"{bound} {goal['unit']}",
        "found": f"{found} {goal['unit']}",
        "": "met" if goal["met"] else "**not met**",
    }


def _table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table, columns as wide as their widest value; numbers as they are."""
    if not rows:
        return "(not measured yet)"
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    padded = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    padded.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(padded)
