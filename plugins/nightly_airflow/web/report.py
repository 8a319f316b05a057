"""A night as one self-contained HTML file, for mail or archives, or the thresholds that it was judged by:

python -m nightly_airflow.web.report MODEL RUN --out FILE
python -m nightly_airflow.web.report MODEL RUN --thresholds
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nightly.io.atomic import write_atomically
from nightly.io.paths import safe_name
from nightly_airflow.web import render
from nightly_airflow.web.records import NotFound, Records
from nightly_airflow.web.views import NightDetails


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(prog="bin/report", description="A night's page as a file, or its thresholds.")
    parser.add_argument("model", help="a folder of include/models")
    parser.add_argument("run", help="the run's id, or the name of its folder")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--out", type=Path, help="the file to write")
    wanted.add_argument(
        "--thresholds", action="store_true", help="print what the night was judged by, and what changed"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        details = Records().night(given.model, safe_name(given.run))
    except NotFound as error:
        print(f"bin/report: {error}", file=sys.stderr)
        return 1
    if given.thresholds:
        return _print_thresholds(details)
    write_atomically(given.out, render.report(details).encode())
    print(
        f"{given.out}: the night of {details.record.title} of {given.model}, {details.record.outcome or 'no verdict'}"
    )
    return 0


def _print_thresholds(details: NightDetails) -> int:
    used = details.thresholds
    if used is None:
        print("\n".join(["bin/report: the night has not been judged", *details.record.problems]), file=sys.stderr)
        return 1
    schema = f"version {used.schema_version}" if used.schema_version else "the curated one"
    print(f"{used.fingerprint}: code {used.code_version}, schema {schema} ({used.schema_sha256[:12]})")
    for key, value in used.values.items():
        print(f"  {key} = {value}" + ("  (for this run only)" if key in used.replaced else ""))
    print(render.threshold_changes(details))
    return 0


if __name__ == "__main__":
    sys.exit(main())
