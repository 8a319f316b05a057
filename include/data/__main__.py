"""The everyday tasks on data. DATA is a CSV, TFRecord or Parquet file, a folder of them, a quoted glob,
`snapshot:MODEL/ID` or `snapshot:MODEL/latest`, or statistics that were saved (.pb, .pbtxt; not for convert).

    bin/data statistics DATA [--out FILE]            TFDV's statistics
    bin/data schema infer DATA [--out FILE]          a first schema, for a person to correct
    bin/data schema show SCHEMA|MODEL
    bin/data validate DATA --schema SCHEMA           anomalies
    bin/data drift NOW BEFORE --schema SCHEMA        distances between days, against the schema's thresholds
    bin/data skew TRAINING SERVING --schema SCHEMA   and between training and serving
    bin/data compare NOW BEFORE                      every feature side by side
    bin/data convert DATA FOLDER                     to TFRecord of tf.Example

`statistics` and `convert` run on a Beam runner with --runner, whose options follow a --:

    bin/data statistics 'gs://b/day-*.parquet' --runner DataflowRunner --dry-run -- --project=p --region=r …

Ends with 0 when all that was asked for is fine, with 1 when something is not or could not be judged, and with 2 when
it could not be done; the error says why. docs/data.md has more.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from include.contracts.base import ContractError
from include.contracts.config import load_config, model_names
from include.tables import cell, print_table

RUNNERS = ("DirectRunner", "DataflowRunner", "FlinkRunner", "SparkRunner", "PortableRunner", "PrismRunner")


def main(words: Sequence[str]) -> int:
    words, beam_args = _before_and_after("--", list(words))
    given = _parser().parse_args(words)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("apache_beam").setLevel(logging.ERROR)  # its warnings are about Beam's own ways
    from include.data.errors import DataError
    from include.pipeline.schema import SchemaError

    try:
        given.beam_args = _beam_args(given, beam_args)
        return given.run(given)
    except (DataError, ContractError, SchemaError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # its reader has seen enough, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m include.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    reading = argparse.ArgumentParser(add_help=False)
    reading.add_argument(
        "--model", help="read DATA as this model's nights do: names, types, ignored columns, its schema"
    )
    reading.add_argument("--schema", type=Path, help="a schema in text format (schema.pbtxt); types of columns, too")
    reading.add_argument(
        "--max-rejected-share", type=_share, metavar="SHARE", help="rows to leave out that cannot be read (0)"
    )
    showing = argparse.ArgumentParser(add_help=False)
    showing.add_argument("--json", action="store_true", help="for machines")
    beam = argparse.ArgumentParser(add_help=False)
    beam.add_argument("--runner", choices=RUNNERS, help="a Beam runner, whose options follow a --; else this process")
    beam.add_argument("--dry-run", action="store_true", help="show the job that the runner would get")
    comparing = argparse.ArgumentParser(add_help=False)
    comparing.add_argument("now", metavar="NOW", help="or the training data")
    comparing.add_argument("before", metavar="BEFORE", help="or the serving data")
    comparing.add_argument("--threshold", action="append", default=[], type=_threshold, metavar="FEATURE=VALUE")
    comparing.add_argument("--all", type=_share, metavar="VALUE", help="the threshold of every other feature")
    comparing.add_argument("--min-rows", type=int, default=200, metavar="N", help="fewer are not judged (%(default)s)")

    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("statistics", parents=[reading, showing, beam], help="TFDV's statistics")
    one.add_argument("data", metavar="DATA")
    one.add_argument("--out", type=Path, metavar="FILE", help="save them, as .pb (binary) or .pbtxt (text)")
    one.set_defaults(run=_statistics)

    schemas = commands.add_parser("schema", help="infer or show a schema").add_subparsers(required=True, metavar="WHAT")
    one = schemas.add_parser("infer", parents=[reading], help="a first schema, for a person to correct")
    one.add_argument("data", metavar="DATA")
    one.add_argument("--out", type=Path, metavar="FILE", help="save it as text; a file that is there is not replaced")
    one.set_defaults(run=_infer)
    one = schemas.add_parser("show", help="its features, with their domains and thresholds")
    one.add_argument("schema", metavar="SCHEMA|MODEL")
    one.set_defaults(run=_show)

    one = commands.add_parser("validate", parents=[reading, showing], help="what is not as the schema has it")
    one.add_argument("data", metavar="DATA")
    one.add_argument("--environment", help="of the schema, e.g. SERVING, where no label is expected")
    one.set_defaults(run=_validate)

    for name, text in (
        ("drift", "distances from an earlier data set"),
        ("skew", "distances of training from serving data"),
        ("compare", "every feature of two data sets side by side"),
    ):
        one = commands.add_parser(name, parents=[reading, showing, comparing], help=text)
        one.set_defaults(run=_compare)

    one = commands.add_parser("convert", parents=[reading, beam, showing], help="to TFRecord of tf.Example")
    one.add_argument("data", metavar="DATA")
    one.add_argument("out", metavar="FOLDER", help="a new one")
    one.add_argument("--shards", type=int, metavar="N", help="files of each split (1; a runner chooses)")
    one.add_argument("--gzip", action="store_true")
    one.add_argument("--split", type=_split, metavar="train=80,eval=20", help="in percent, by a hash of the row's id")
    one.add_argument("--id-columns", type=lambda text: text.split(","), default=[], metavar="A,B")
    one.set_defaults(run=_convert)
    return parser


def _statistics(given: argparse.Namespace) -> int:
    from include.data import save_statistics, statistics_on_beam, summary

    if given.dry_run:
        return _dry_run(given)
    found = (
        statistics_on_beam(given.data, given.beam_args, **_how(given)) if given.runner else _measured(given.data, given)
    )
    if given.out:
        save_statistics(found, given.out)
    rows = summary(found)
    examples = int(found.datasets[0].num_examples)
    if given.json:
        return _print_json({"examples": examples, "features": [asdict(row) for row in rows]})
    print(f"{given.data}: {examples:,} rows, {len(rows)} features" + (f"; saved as {given.out}" if given.out else ""))
    header = ["FEATURE", "TYPE", "MISSING", "UNIQUE", "MIN", "MEDIAN", "MAX", "MEAN", "ZEROS", "TOP VALUES"]
    print_table(header, [_summary_cells(row) for row in rows], right=range(2, 9))
    return 0


def _summary_cells(row: Any) -> list[str]:
    top = ", ".join(f"{cell(value)[:24]} {rows:,}" for value, rows in row.top.items())
    return [
        row.name,
        row.type if row.values <= 1 else f"{row.type} x {row.values:.3g}",
        _percent(row.missing),
        "" if row.unique is None else f"{row.unique:,}",
        *map(_number, (row.min, row.median, row.max, row.mean)),
        "" if row.zeros is None else _percent(row.zeros),
        top,
    ]


def _infer(given: argparse.Namespace) -> int:
    from google.protobuf import text_format

    from include.data import infer_schema, save_schema
    from include.data.errors import DataError

    if given.out and given.out.exists():
        raise DataError(f"{given.out} is there already, and a person may have worked on it; name another file")
    schema = infer_schema(_measured(given.data, given))
    if given.out:
        save_schema(schema, given.out)
        print(f"{given.out}: {len(schema.feature)} features; read and correct it before anything is held against it")
    else:
        print(text_format.MessageToString(schema), end="")
    return 0


def _show(given: argparse.Namespace) -> int:
    from include.data.schemas import read_schema, rows_of

    place = load_config(given.schema).folder if given.schema in model_names() else given.schema
    schema = read_schema(place)
    print_table(["FEATURE", "TYPE", "PRESENCE", "VALUES", "DOMAIN", "DRIFT", "SKEW", "NOT IN"], rows_of(schema))
    return 0


def _validate(given: argparse.Namespace) -> int:
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    from include.data import validate
    from include.data.schemas import listed

    schema = _schema(given, needed=True)
    found = listed(validate(_measured(given.data, given), schema, environment=given.environment))
    if given.json:
        _print_json([asdict(one) for one in found])
    elif found:
        print_table(
            ["", "FEATURE", "ANOMALY", "WHAT"], [[o.severity, o.feature, o.short, o.description] for o in found]
        )
    else:
        print(f"{given.data}: no anomalies")
    return int(
        any(one.severity == anomalies_pb2.AnomalyInfo.Severity.Name(anomalies_pb2.AnomalyInfo.ERROR) for one in found)
    )


def _compare(given: argparse.Namespace) -> int:
    from include.data import drift, explained, infer_schema, skew, summary, with_thresholds
    from include.data.comparing import ANY

    thresholds, kind = dict(given.threshold), "skew" if given.command == "skew" else "drift"
    now, before = _measured(given.now, given), _measured(given.before, given)
    judged = given.command != "compare" or bool(thresholds) or given.all is not None
    every = given.all if judged or given.all is not None else ANY
    schema = infer_schema(now) if given.command == "compare" else _schema(given) or infer_schema(now)
    schema = with_thresholds(schema, kind, thresholds, every)
    found = (skew if kind == "skew" else drift)(now, before, schema)
    distances = explained(found, kind, now, before, schema, min_rows=given.min_rows)
    passed = not judged or all(distance.passed for distance in distances)
    if given.json:
        _print_json({"passed": passed, "features": [_distance_json(distance, judged) for distance in distances]})
        return int(not passed)
    sides = [{row.name: row for row in summary(side)} for side in (now, before)]
    print(f"{given.now}: {_examples(now)} rows; {given.before}: {_examples(before)} rows")
    rows = [
        _distance_cells(distance, judged, *(side.get(distance.feature) for side in sides)) for distance in distances
    ]
    header = ["", "FEATURE", "MEASURE", "DISTANCE", "ALLOWED", "MISSING", "BEFORE", "TYPICAL", "BEFORE", "MOST CHANGED"]
    print_table(header, rows, right={3, 4, 5, 6})
    return int(not passed)


def _distance_cells(distance: Any, judged: bool, now: Any, before: Any) -> list[str]:
    most = "; ".join(
        f"{cell(one.value)} {_percent(one.share)} ({'new' if one.control is None else _percent(one.control)})"
        for one in distance.contributions[:2]
    )
    state = ("ok" if distance.passed else "not judged" if distance.why else "BEYOND") if judged else ""
    return [
        state,
        distance.feature,
        distance.norm,
        _number(distance.value),
        _number(distance.threshold) if judged else "",
        *(_percent(side.missing) if side else "" for side in (now, before)),
        *(_typical(side) for side in (now, before)),
        distance.why if distance.value is None or (judged and distance.why) else most,
    ]


def _typical(row: Any) -> str:
    """The median, or the most frequent value."""
    if row is None:
        return "-"
    return _number(row.median) if row.median is not None else cell(next(iter(row.top), ""))[:20]


def _distance_json(distance: Any, judged: bool) -> dict[str, Any]:
    values = [one.model_dump() for one in distance.contributions]
    data = asdict(distance) | {"contributions": values}
    return data | ({"passed": distance.passed} if judged else {"threshold": None})


def _convert(given: argparse.Namespace) -> int:
    from include.data import convert, convert_on_beam

    if given.dry_run:
        return _dry_run(given)
    how = _how(given) | {"gzip": given.gzip, "split": given.split, "id_columns": given.id_columns}
    if given.shards is not None:
        how["shards"] = given.shards
    if given.runner:
        rows = convert_on_beam(given.data, given.out, given.beam_args, **how)
    else:
        rows = convert(given.data, given.out, **how)
    if given.json:
        return _print_json(rows)
    for name, count in rows.items():
        print(f"{given.out}{'/Split-' + name if name else ''}: {count:,} examples")
    return 0


def _dry_run(given: argparse.Namespace) -> int:
    from include.data import dry_run

    how = _how(given)
    if given.command == "convert":
        how |= {"out": given.out, "gzip": given.gzip, "split": given.split, "id_columns": given.id_columns}
        how |= {"shards": given.shards or 0}
    return _print_json(dry_run(given.data, given.beam_args, **how))


def _measured(data: str, given: argparse.Namespace) -> Any:
    from include.data import statistics

    return statistics(data, **_how(given))


def _how(given: argparse.Namespace) -> dict[str, Any]:
    return {"model": given.model, "schema": _schema(given), "max_rejected_share": given.max_rejected_share}


def _schema(given: argparse.Namespace, needed: bool = False) -> Any:
    """--schema, else the model's."""
    from include.data import read_schema
    from include.data.errors import DataError

    if given.schema:
        return read_schema(given.schema)
    if needed and not given.model:
        raise DataError("give --schema FILE or --model NAME; `schema infer` proposes a first one")
    return read_schema(load_config(given.model).folder) if given.model else None


def _beam_args(given: argparse.Namespace, words: list[str]) -> list[str]:
    runner, dry_run = getattr(given, "runner", None), getattr(given, "dry_run", False)
    if (words or dry_run) and not runner:
        what = "options after -- are" if words else "--dry-run is"
        raise ContractError(f"{what} for a Beam runner: give --runner, one of {', '.join(RUNNERS)}")
    return [f"--runner={runner}", *words] if runner else []


def _before_and_after(mark: str, words: list[str]) -> tuple[list[str], list[str]]:
    return (words[: words.index(mark)], words[words.index(mark) + 1 :]) if mark in words else (words, [])


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


def _examples(found: Any) -> str:
    return f"{int(found.datasets[0].num_examples):,}"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _print_json(data: Any) -> int:
    print(json.dumps(data, indent=2, default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
