"""Inspect data and write a model for it: its folder in include/models and its DAG file.

    bin/new NAME DATA [--label COLUMN]              DATA is a file, a folder or a URL
    bin/new NAME --connection ID --table T          a table of a database

It proposes the label, its kind, the time and id columns, the features and the thresholds, each with a reason. It asks
about what is not certain; --yes accepts every proposal. Then it writes all files or none, and overwrites nothing.
docs/how-to/new-model.md says how it decides.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from typing import get_args

from nightly.cli.errors import Parser, command
from nightly.io import variables
from nightly.records.source_config import FileFormat
from nightly.runtime import worker


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser("bin/new", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="the model's name: lower-case letters, digits and _")
    parser.add_argument("data", metavar="DATA", nargs="?", default="", help="a file, a folder or a URL")
    parser.add_argument("--connection", default="", metavar="ID", help="an Airflow connection, in AIRFLOW_CONN_<ID>")
    parser.add_argument("--table", default="", metavar="T", help="a table of the connection's database")
    formats = get_args(FileFormat)
    parser.add_argument(
        "--format", default="", choices=formats, help="the files' format, if their names do not show it"
    )
    parser.add_argument(
        "--label", default="", metavar="COLUMN", help="what the model predicts: a column's name or header"
    )
    parser.add_argument("--kind", choices=["binary", "classes", "number"], help="the label's kind")
    parser.add_argument("--time", default="", metavar="COLUMN", help="the time of a row; `none` if there is none")
    parser.add_argument("--id", action="append", default=[], metavar="COLUMN", help="identifies a row; may be repeated")
    parser.add_argument("--weight", default="", metavar="COLUMN", help="the weight of a row")
    parser.add_argument("--yes", action="store_true", help="accept every proposal")
    return parser


@command("bin/new")
def main(args: Sequence[str] | None = None) -> int:
    options = parser().parse_args(args)
    from nightly.new_model.writing import refuse_name

    refuse_name(options.name)  # before TensorFlow's libraries load
    began = time.monotonic()
    from nightly.new_model.creating import create, source_of
    from nightly.new_model.proposal import Wishes
    from nightly.new_model.questions import Questions
    from nightly.new_model.telling import show_end, show_proposal

    worker.set_up_logging()
    if variables.LOG_LEVEL.read().upper() != "DEBUG":
        logging.getLogger("nightly").setLevel(logging.ERROR)  # the checks of past windows log as much as nights do
        logging.getLogger("nightly.sources").setLevel(logging.WARNING)  # shows retries
        # There are many dates without a file.
        logging.getLogger("nightly.sources.files.listing").setLevel(logging.ERROR)
    wishes = Wishes(options.label, options.kind, options.time, options.id, options.weight)
    created = create(
        options.name,
        source_of(options.data, options.connection, options.table, options.format),
        wishes,
        Questions(options.yes),
        origin=options.data or f"the table {options.table}",
        tell=show_proposal,
    )
    show_end(created, time.monotonic() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
