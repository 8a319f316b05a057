"""A night as one self-contained HTML file, for mail or archives: python -m nightly.web.report MODEL RUN --out FILE"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from include.contracts.base import write_atomically
from include.contracts.places import safe_name
from nightly.web import render
from nightly.web.records import NotFound, Records


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bin/report", description="Write a night's page as one HTML file.")
    parser.add_argument("model", help="a folder of include/models")
    parser.add_argument("run", help="the run's id, or the name of its folder")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    given = parser.parse_args(arguments)
    try:
        details = Records().night(given.model, safe_name(given.run))
    except NotFound as error:
        print(f"bin/report: {error}", file=sys.stderr)
        return 1
    write_atomically(given.out, render.report(details).encode())
    print(
        f"{given.out}: the night of {details.record.title} of {given.model}, {details.record.outcome or 'no verdict'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
