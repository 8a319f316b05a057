"""The arguments of the commands on data."""

import argparse
from pathlib import Path

from nightly.cli.arguments import positive_int
from nightly.cli.errors import Parser
from nightly.records.base import ContractError

RUNNERS = ("DirectRunner", "DataflowRunner", "FlinkRunner", "SparkRunner", "PortableRunner", "PrismRunner")


def build_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser. It sets `run`: statistics, infer, show, validate, drift, skew, compare or convert."""
    parser = Parser("bin/data", description=description)
    reading = argparse.ArgumentParser(add_help=False)
    reading.add_argument(
        "--model", help="read DATA as this model's nights do: names, types, ignored columns, its schema"
    )
    reading.add_argument("--schema", type=Path, help="a schema in text format (schema.pbtxt); types of columns, too")
    reading.add_argument(
        "--max-rejected-share", type=_share, metavar="SHARE", help="leave out unreadable rows, up to this share (0)"
    )
    showing = argparse.ArgumentParser(add_help=False)
    showing.add_argument("--json", action="store_true", help="for machines")
    on_beam = argparse.ArgumentParser(add_help=False)
    on_beam.add_argument(
        "--runner", choices=RUNNERS, help="a Beam runner, its options after --; by default this process"
    )
    on_beam.add_argument("--dry-run", action="store_true", help="show the job that the runner would get")
    comparing = argparse.ArgumentParser(add_help=False)
    comparing.add_argument("now", metavar="NOW", help="or the training data")
    comparing.add_argument("before", metavar="BEFORE", help="or the serving data")
    comparing.add_argument("--threshold", action="append", default=[], type=_threshold, metavar="FEATURE=VALUE")
    comparing.add_argument("--all", type=_share, metavar="VALUE", help="the threshold of every other feature")
    comparing.add_argument(
        "--min-rows", type=positive_int, default=200, metavar="N", help="fewer are not judged (%(default)s)"
    )

    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    subparser = commands.add_parser("statistics", parents=[reading, showing, on_beam], help="TFDV's statistics")
    subparser.add_argument("data", metavar="DATA")
    subparser.add_argument("--out", type=Path, metavar="FILE", help="save them, as .pb (binary) or .pbtxt (text)")
    subparser.set_defaults(run="statistics")

    schemas = commands.add_parser("schema", help="infer or show a schema").add_subparsers(required=True, metavar="WHAT")
    subparser = schemas.add_parser("infer", parents=[reading], help="a first schema, for a person to correct")
    subparser.add_argument("data", metavar="DATA")
    subparser.add_argument("--out", type=Path, metavar="FILE", help="save it as text; an existing file is not replaced")
    subparser.set_defaults(run="infer")
    subparser = schemas.add_parser("show", help="its features, with their domains and thresholds")
    subparser.add_argument("schema", metavar="SCHEMA|MODEL")
    subparser.set_defaults(run="show")

    subparser = commands.add_parser("validate", parents=[reading, showing], help="anomalies against the schema")
    subparser.add_argument("data", metavar="DATA")
    subparser.add_argument("--environment", help="of the schema, e.g. SERVING, where no label is expected")
    subparser.set_defaults(run="validate")

    for name, text in (
        ("drift", "distances from an earlier data set"),
        ("skew", "distances of training from serving data"),
        ("compare", "every feature of two data sets side by side"),
    ):
        subparser = commands.add_parser(name, parents=[reading, showing, comparing], help=text)
        subparser.set_defaults(run=name)

    subparser = commands.add_parser("convert", parents=[reading, on_beam, showing], help="to TFRecord of tf.Example")
    subparser.add_argument("data", metavar="DATA")
    subparser.add_argument("out", metavar="FOLDER", help="a new one")
    subparser.add_argument("--shards", type=positive_int, metavar="N", help="files of each split (1; a runner chooses)")
    subparser.add_argument("--gzip", action="store_true")
    subparser.add_argument(
        "--split", type=_split, metavar="train=80,eval=20", help="in percent, by a hash of the row's id"
    )
    subparser.add_argument("--id-columns", type=lambda text: text.split(","), default=[], metavar="A,B")
    subparser.set_defaults(run="convert")
    return parser


def beam_args(options: argparse.Namespace, args: list[str]) -> list[str]:
    """Return Beam's arguments: the runner, then the options after the --. Raises ContractError without a runner."""
    runner, dry_run = getattr(options, "runner", None), getattr(options, "dry_run", False)
    if (args or dry_run) and not runner:
        unused = "options after -- are" if args else "--dry-run is"
        raise ContractError(f"{unused} for a Beam runner: give --runner, one of {', '.join(RUNNERS)}")
    return [f"--runner={runner}", *args] if runner else []


def before_and_after(mark: str, args: list[str]) -> tuple[list[str], list[str]]:
    """Split the arguments at `mark`, which is in neither part."""
    return (args[: args.index(mark)], args[args.index(mark) + 1 :]) if mark in args else (args, [])


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 0 to 1")
    return number


def _threshold(text: str) -> tuple[str, float]:
    feature, equals, value = text.rpartition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: give FEATURE=VALUE")
    return feature, _share(value)


def _split(text: str) -> dict[str, int]:
    shares = {}
    for part in text.split(","):
        name, _, percent = part.partition("=")
        if not percent.isdecimal() or name in shares:
            raise argparse.ArgumentTypeError(f"{text!r}: give NAME=PERCENT,NAME=PERCENT, e.g. train=80,eval=20")
        shares[name] = int(percent)
    return shares
