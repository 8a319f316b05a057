"""Write a night as one self-contained HTML file, for mail or archives, or show the thresholds it was judged by:

bin/report MODEL RUN --out FILE
bin/report MODEL RUN --thresholds
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nightly.cli.errors import Parser, command
from nightly.io.atomic import write_atomically
from nightly.io.hints import did_you_mean
from nightly.io.paths import safe_name
from nightly_airflow.web import render
from nightly_airflow.web.records import NotFound, Records
from nightly_airflow.web.views import NightDetails


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser("bin/report", description=__doc__)
    parser.add_argument("model", help="a folder of include/models")
    parser.add_argument("run", help="the run's id, or the name of its folder")
    output = parser.add_mutually_exclusive_group(required=True)
    output.add_argument("--out", type=Path, help="the file to write")
    output.add_argument(
        "--thresholds", action="store_true", help="print the night's thresholds and what changed since the night before"
    )
    return parser


@command("bin/report")
def main(args: Sequence[str] | None = None) -> int:
    options = parser().parse_args(args)
    records = Records()
    if options.model not in (models := records.models()):
        raise NotFound(f"there is no model {options.model!r}{did_you_mean(options.model, models)}")
    details = records.night(options.model, safe_name(options.run))
    if options.thresholds:
        _print_thresholds(details)
        return 0
    write_atomically(options.out, render.report(details).encode())
    outcome = details.record.outcome or "no verdict"
    print(f"{options.out}: the night of {details.record.title} of {options.model}, {outcome}")
    return 0


def _print_thresholds(details: NightDetails) -> None:
    used = details.thresholds
    if used is None:
        problems = "".join(f"; {problem}" for problem in details.record.problems)
        raise NotFound(f"the night of {details.record.title} has not been judged{problems}")
    schema = f"version {used.schema_version}" if used.schema_version else "the curated one"
    print(f"{used.fingerprint}: code {used.code_version}, schema {schema} ({used.schema_sha256[:12]})")
    for key, value in used.values.items():
        print(f"  {key} = {value}" + ("  (for this run only)" if key in used.replaced else ""))
    print(render.threshold_changes(details))


if __name__ == "__main__":
    sys.exit(main())
