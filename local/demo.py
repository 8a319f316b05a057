"""The demo, offline and on real data: python -m local.demo

It starts a separate Airflow under var/demo and runs consecutive nights of Chicago taxi trips by `airflow backfill
create`. Most nights release a model. Two are held: before one the source loses a column, and another follows a jump
in time, after which people pay differently. At the end it prints the nights with their verdicts, the versions on disk
and a prediction of the last one, and writes them to var/demo/summary.json.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.table import Table

from local.airflow import LocalAirflow
from local.serving import LocalModelServer
from nightly.cli.errors import command
from nightly.io.errors import UserError
from nightly.io.paths import Paths
from nightly.io.polling import poll
from nightly.records.golden import GOLDEN, Golden
from nightly.records.release import ReleaseRecord
from nightly.records.verdict import Outcome, Verdict

DAG = "taxi_retrain"
TRIPS = "tfx/examples/chicago_taxi_pipeline/data/big_tipper_label/data.csv"
NIGHT_SECONDS = 300  # per night, before the demo gives up

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)  # output to a file has no terminal width


@dataclass(frozen=True)
class Chapter:
    """Consecutive nights with the same state of the source, and their expected verdict."""

    first: str  # logical date; both are inclusive
    last: str
    expected: Outcome
    drop_column: str = ""
    title: str = ""


STORY = (
    Chapter("2014-02-01", "2014-02-03", Outcome.RELEASED, title="three ordinary nights"),
    Chapter("2014-02-04", "2014-02-04", Outcome.HELD_DATA, "payment_type", "the source loses its column payment_type"),
    Chapter("2014-02-05", "2014-02-05", Outcome.RELEASED, title="the column is back"),
    Chapter("2015-06-01", "2015-06-01", Outcome.HELD_DATA, title="sixteen months later: the trips have drifted"),
)


@command("python -m local.demo")
def main() -> int:
    began = time.monotonic()
    home = Paths.from_environment().var / "demo"
    shutil.rmtree(home, ignore_errors=True)
    paths = Paths.from_environment()
    trips = _trips(paths.ml_python)
    source = home / "source" / "trips.csv"
    source.parent.mkdir(parents=True)
    environment = {
        "NIGHTLY_VAR": str(home),
        "NIGHTLY_RUN": str(paths.run),  # shares the warm host with other runs on this machine
        "AIRFLOW_CONN_TAXI_FILES": json.dumps({"conn_type": "fs", "extra": {"path": str(source)}}),
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # no other nights than the demo's
    }
    total = sum(len(_days(chapter)) for chapter in STORY)
    console.print(f"[bold]nightly-retrain[/]: {total} nights of taxi trips, in {home}")
    console.print("starting the model server and Airflow …")
    with (
        LocalModelServer.of_releases(_demo_paths(home), home / "serving.log").running() as server,
        LocalAirflow(home / "airflow", environment | server.environment).running() as airflow,
    ):
        console.print(f"Airflow is up: {airflow.url} (admin / {airflow.password})")
        airflow.api("patch", f"dags/{DAG}", json={"is_paused": False})
        for chapter in STORY:
            _write_source(trips, source, chapter.drop_column)
            console.print(f"\n[bold]{chapter.first}[/] {chapter.title}")
            airflow.backfill(DAG, chapter.first, chapter.last, {"release": "yes"})  # not the default of backfills
            _follow(airflow, chapter)
        runs = airflow.api("get", f"dags/{DAG}/dagRuns", params={"order_by": "logical_date", "limit": 100})["dag_runs"]
        prediction = _predict(server, home)
    nights = [_night(run, home) for run in runs]
    summary = {
        "ok": _as_expected(nights),
        "seconds": round(time.monotonic() - began, 1),
        "nights": nights,
        "releases": [r.model_dump(mode="json", exclude={"files"}) for r in _releases(home)],
        "versions_on_disk": _versions(home),
        "prediction": prediction,
    }
    (home / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _show(summary, home)
    return 0 if summary["ok"] else 1


def _trips(ml_python: Path) -> Path:
    """Return the taxi trips that are in the ML environment's package tfx."""
    for path in (ml_python.parent.parent / "lib").glob(f"python3*/site-packages/{TRIPS}"):
        return path
    raise UserError(f"{ml_python} has no package tfx, which has the trips; set it up with `make setup`")


def _write_source(trips: Path, source: Path, drop_column: str) -> None:
    """Replace the source atomically by the real trips, without `drop_column` if it is given."""
    temporary = source.with_suffix(".new")
    with trips.open(newline="") as rows, temporary.open("w", newline="") as out:
        reader = csv.DictReader(rows)
        columns = [name for name in reader.fieldnames or [] if name != drop_column]
        writer = csv.DictWriter(out, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(reader)
    temporary.replace(source)


def _follow(airflow: LocalAirflow, chapter: Chapter) -> None:
    """Print each task as it ends, until every night of the chapter has ended."""
    printed: set[tuple[str, str, int]] = set()
    days = _days(chapter)

    def have_ended() -> bool:
        runs = airflow.api("get", f"dags/{DAG}/dagRuns", params={"limit": 100})["dag_runs"]
        runs = sorted((r for r in runs if (r["logical_date"] or "")[:10] in days), key=lambda r: r["logical_date"])
        for run in runs:
            path = f"dags/{DAG}/dagRuns/{run['dag_run_id']}/taskInstances"
            for task in airflow.api("get", path, params={"limit": 100})["task_instances"]:
                key = (run["dag_run_id"], task["task_id"], task["try_number"])
                if task["state"] in ("success", "failed", "skipped", "up_for_retry") and key not in printed:
                    printed.add(key)
                    if task["state"] != "skipped":
                        line = f"{task['task_id']:<18} {task['state']:<9} {task['duration'] or 0:5.1f} s"
                        console.print(f"  {run['logical_date'][:10]}  {line}")
        return len(runs) == len(days) and all(run["state"] in ("success", "failed") for run in runs)

    if not poll(have_ended, seconds=NIGHT_SECONDS * len(days), every=1):
        raise UserError(f"the nights {chapter.first} to {chapter.last} did not end; Airflow's log is {airflow.log}")


def _days(chapter: Chapter) -> list[str]:
    first, last = dt.date.fromisoformat(chapter.first), dt.date.fromisoformat(chapter.last)
    return [str(first + dt.timedelta(days=n)) for n in range((last - first).days + 1)]


def _night(run: dict[str, Any], home: Path) -> dict[str, Any]:
    paths = _demo_paths(home)
    path = paths.night("taxi", run["dag_run_id"]) / Verdict.FILE
    verdict = Verdict.load(path).model_dump(mode="json") if path.exists() else None
    return {"date": run["logical_date"][:10], "state": run["state"], "seconds": run["duration"], "verdict": verdict}


def _demo_paths(home: Path) -> Paths:
    return Paths.from_environment({**os.environ, "NIGHTLY_VAR": str(home)})


def _as_expected(nights: list[dict[str, Any]]) -> bool:
    expected = [(day, chapter.expected) for chapter in STORY for day in _days(chapter)]
    return [(night["date"], (night["verdict"] or {}).get("outcome")) for night in nights] == expected


def _releases(home: Path) -> list[ReleaseRecord]:
    return [ReleaseRecord.load(path) for path in sorted((_demo_paths(home).releases / "taxi").glob("[0-9]*.json"))]


def _versions(home: Path) -> list[int]:
    return sorted(int(path.name) for path in (_demo_paths(home).serving / "taxi").glob("[0-9]*"))


def _predict(server: LocalModelServer, home: Path) -> dict[str, Any] | None:
    """Return the last version's predictions from the model server over REST, beside the offline ones."""
    versions = _versions(home)
    if not versions:
        return None
    golden = Golden.load(home / "serving" / "taxi" / str(versions[-1]) / GOLDEN)
    response = requests.post(
        f"{server.url}/v1/models/taxi/labels/stable:predict",
        json={"instances": [{"b64": example.example_base64} for example in golden.examples[:3]]},
        timeout=60,
    )
    response.raise_for_status()
    return {
        "version": versions[-1],
        "asked": [example.features for example in golden.examples[:3]],
        "answered": response.json()["predictions"],
        "offline": [example.outputs[golden.output][0] for example in golden.examples[:3]],
    }


def _show(summary: dict[str, Any], home: Path) -> None:
    table = Table(title="\nnights", title_justify="left")
    for name in ("night", "verdict", "rows", "auc", "version", "seconds", "why"):
        table.add_column(name, justify="right" if name in ("rows", "auc", "seconds") else "left", overflow="fold")
    for night in summary["nights"]:
        verdict = night["verdict"] or {"outcome": "none", "metrics": {}, "reasons": []}
        held = [reason["message"] for reason in verdict["reasons"] if reason["held"]]
        colour = {"RELEASED": "green", "FAILED": "red", "none": "red"}.get(verdict["outcome"], "yellow")
        auc = verdict["metrics"].get("auc")
        table.add_row(
            night["date"],
            f"[{colour}]{verdict['outcome']}[/]",
            str(verdict.get("rows") or ""),
            f"{auc:.3f}" if auc else "",
            str(verdict.get("version") or ""),
            f"{night['seconds'] or 0:.0f}",
            "\n".join(held[:3]) + (f"\nand {len(held) - 3} more" if len(held) > 3 else ""),
        )
    console.print(table)
    console.print(f"versions on disk: {', '.join(map(str, summary['versions_on_disk']))}  ({home}/serving/taxi)")
    if summary["prediction"]:
        predictions = ", ".join(f"{float(value[0]):.4f}" for value in summary["prediction"]["answered"])
        console.print(f"over REST, version {summary['prediction']['version']} answers {predictions}")
    result = "[green]every night ended as expected[/]" if summary["ok"] else "[red]a night did not end as expected[/]"
    console.print(f"{result}, {summary['seconds']:.0f} s; {home / 'summary.json'}")


if __name__ == "__main__":
    sys.exit(main())
