"""Results as text, as benchmarks/results.json, and as the charts and tables of docs/performance.md."""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks import charts
from nightly.io.paths import ROOT

RESULTS = ROOT / "benchmarks/results.json"
DOCUMENT = ROOT / "docs/performance.md"
CHARTS = "images/performance"  # beside the document


def keep(name: str, result: dict[str, Any], results: Path = RESULTS, document: Path = DOCUMENT) -> None:
    """Replace a benchmark's last result, in the JSON and in the document."""
    known = json.loads(results.read_text()) if results.exists() else {}
    known[name] = result
    results.write_text(json.dumps(known, indent=1) + "\n")
    write(known, document)


def write(results: dict[str, Any], document: Path = DOCUMENT) -> None:
    """Draw the charts, and write all results between their markers. Raise ValueError for a result without markers."""
    text = document.read_text()
    folder = document.parent / CHARTS
    parts = {"goals": all_goals(results), "facts": facts(results)}
    parts |= {name: section(result, charts.draw(name, result["tables"], folder)) for name, result in results.items()}
    for name, content in parts.items():
        begin, end = f"<!-- {name}: written by `make bench` -->", f"<!-- /{name} -->"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text, replaced = re.subn(pattern, lambda _, c=f"{begin}\n{content}\n{end}": c, text, count=1, flags=re.DOTALL)
        if not replaced:
            raise ValueError(f"{document} has no place for {name!r}: add the lines {begin!r} and {end!r}")
    document.write_text(text)


def all_goals(results: dict[str, Any]) -> str:
    """Return one table of all goals."""
    rows = [
        {"benchmark": name, **_goal_row(goal)} for name, result in sorted(results.items()) for goal in result["goals"]
    ]
    return _table(rows)


def facts(results: dict[str, Any]) -> str:
    """Return when, where and with what the results were measured: one line for those measured alike."""
    measured: dict[str, list[str]] = {}
    versions: dict[str, list[str]] = {}
    for name, result in sorted(results.items()):
        known = result["facts"]
        machine = f"{known['cores']} cores of {known['cpu']}, {known['memory_gb']} GB, {known['system']}"
        line = f"Measured on {known['date'][:10]} on {machine}; code {known['code']}"
        measured.setdefault(line, []).append(name)
        line = ", ".join(f"{package} {version}" for package, version in known["versions"].items())
        versions.setdefault(line, []).append(name)
    return "\n\n".join(_named(lines) for lines in (measured, versions))


def _named(lines: dict[str, list[str]]) -> str:
    """Return the lines, each with its benchmarks' names; the most frequent line applies to all others."""
    first, *rest = sorted(lines, key=lambda line: -len(lines[line]))
    return ". ".join([first, *(f"{', '.join(lines[line])}: {line[0].lower()}{line[1:]}" for line in rest)]) + "."


def section(result: dict[str, Any], drawn: list[str]) -> str:
    """Return a benchmark's charts and tables; tables are folded if there is a chart. `drawn`: the charts' files."""
    tables = "\n\n".join(f"**{title}**\n\n{_table(rows)}" for title, rows in result["tables"].items())
    if not drawn:
        return tables
    images = [f"![{title}]({CHARTS}/{file})" for title, file in zip(result["tables"], drawn, strict=False)]
    folded = f"<details markdown>\n<summary>The numbers</summary>\n\n{tables}\n\n</details>"
    return "\n\n".join([*images, folded])


def as_text(name: str, result: dict[str, Any]) -> str:
    """Return a benchmark's tables and goals for a terminal."""
    parts = [f"{title}\n{_table(rows)}" for title, rows in result["tables"].items()]
    goals = _table([_goal_row(goal) for goal in result["goals"]]) if result["goals"] else ""
    return "\n\n".join([f"{name}: {result['seconds']} s", *parts, *([goals] if goals else []), ""])


def _goal_row(goal: dict[str, Any]) -> dict[str, str]:
    bound = f"at most {goal['at_most']:g}" if goal["at_most"] is not None else f"at least {goal['at_least']:g}"
    measured = f"{goal['found']:,.3g}" if goal["found"] < 100 else f"{goal['found']:,.0f}"
    return {
        "what": goal["what"],
        "goal": f"{bound} {goal['unit']}",
        "measured": f"{measured} {goal['unit']}",
        "": "met" if goal["met"] else "**not met**",
    }


def _table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table, with columns as wide as their widest value."""
    if not rows:
        return "(not measured yet)"
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    padded = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    padded.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(padded)
