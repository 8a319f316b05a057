"""Inspect, check and convert data. DATA is a CSV, JSON lines, TFRecord, Parquet or Avro file, a folder, a quoted glob,
`snapshot:MODEL/ID` or `snapshot:MODEL/latest`, or saved statistics (.pb, .pbtxt; not for convert).

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

Exit status: 0 done and nothing is wrong, 1 a check failed or could not be done, 2 wrong arguments or unreadable data.
docs/data.md has more.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nightly.cli.data_arguments import beam_args, before_and_after, build_parser
from nightly.cli.data_printing import distance_json, print_distances, print_json, print_summary
from nightly.cli.errors import command
from nightly.io.tables import print_table
from nightly.models import load_config, model_names


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    return build_parser(__doc__)


@command("bin/data")
def main(args: Sequence[str] | None = None) -> int:
    args, after = before_and_after("--", list(sys.argv[1:] if args is None else args))
    options = parser().parse_args(args)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("apache_beam").setLevel(logging.ERROR)  # Beam's warnings concern its own internals
    options.beam_args = beam_args(options, after)
    return COMMANDS[options.run](options)


def _statistics(options: argparse.Namespace) -> int:
    from nightly.data import save_statistics, statistics_on_beam, summary

    if options.dry_run:
        return _dry_run(options)
    if options.runner:
        computed = statistics_on_beam(options.data, options.beam_args, **_reading(options))
    else:
        computed = _statistics_of(options.data, options)
    if options.out:
        save_statistics(computed, options.out)
    rows = summary(computed)
    examples = int(computed.datasets[0].num_examples)
    if options.json:
        print_json({"examples": examples, "features": [asdict(row) for row in rows]})
        return 0
    saved = f"; saved as {options.out}" if options.out else ""
    print(f"{options.data}: {examples:,} rows, {len(rows)} features{saved}")
    print_summary(rows)
    return 0


def _infer(options: argparse.Namespace) -> int:
    from google.protobuf import text_format

    from nightly.data import first_schema, infer_schema, save_schema
    from nightly.data.errors import DataError
    from nightly.data.schemas import HEADER, schema_file

    out = schema_file(options.out) if options.out else None
    if out and out.exists():
        raise DataError(f"{out} exists and may have been edited: remove it first, or name another file")
    config = load_config(options.model) if options.model else None
    statistics = _statistics_of(options.data, options)
    schema = first_schema(statistics, config) if config else infer_schema(statistics)
    if out:
        header = HEADER.format(model=config.name, data=options.data) if config else ""
        save_schema(schema, out, header)
        print(f"{out}: {len(schema.feature)} features; read and correct it before you use it")
    else:
        print(text_format.MessageToString(schema, as_utf8=True), end="")
    return 0


def _show(options: argparse.Namespace) -> int:
    from nightly.data.schemas import read_schema, rows_of

    path = load_config(options.schema).folder if options.schema in model_names() else options.schema
    schema = read_schema(path)
    print_table(["FEATURE", "TYPE", "PRESENCE", "VALUES", "DOMAIN", "DRIFT", "SKEW", "NOT IN"], rows_of(schema))
    return 0


def _validate(options: argparse.Namespace) -> int:
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    from nightly.data import validate
    from nightly.data.schemas import listed

    schema = _schema(options, needed=True)
    anomalies = listed(validate(_statistics_of(options.data, options), schema, environment=options.environment))
    if options.json:
        print_json([asdict(anomaly) for anomaly in anomalies])
    elif anomalies:
        print_table(
            ["", "FEATURE", "ANOMALY", "WHAT"], [[a.severity, a.feature, a.short, a.description] for a in anomalies]
        )
    else:
        print(f"{options.data}: no anomalies")
    error = anomalies_pb2.AnomalyInfo.Severity.Name(anomalies_pb2.AnomalyInfo.ERROR)
    return int(any(anomaly.severity == error for anomaly in anomalies))


def _compare(options: argparse.Namespace) -> int:
    from nightly.data import drift, explained, infer_schema, skew, summary, with_thresholds
    from nightly.data.comparing import ANY

    thresholds, kind = dict(options.threshold), "skew" if options.command == "skew" else "drift"
    now, before = _statistics_of(options.now, options), _statistics_of(options.before, options)
    judged = options.command != "compare" or bool(thresholds) or options.all is not None
    every = options.all if judged or options.all is not None else ANY
    schema = infer_schema(now) if options.command == "compare" else _schema(options) or infer_schema(now)
    schema = with_thresholds(schema, kind, thresholds, every)
    compared = (skew if kind == "skew" else drift)(now, before, schema)
    distances = explained(compared, kind, now, before, schema, min_rows=options.min_rows)
    passed = not judged or all(distance.passed for distance in distances)
    if options.json:
        print_json({"passed": passed, "features": [distance_json(distance, judged) for distance in distances]})
        return int(not passed)
    sides = [{row.name: row for row in summary(side)} for side in (now, before)]
    print(f"{options.now}: {_examples(now)} rows; {options.before}: {_examples(before)} rows")
    print_distances(distances, judged, *sides)
    return int(not passed)


def _convert(options: argparse.Namespace) -> int:
    from nightly.data import convert, convert_on_beam

    if options.dry_run:
        return _dry_run(options)
    kwargs = _reading(options) | {"gzip": options.gzip, "split": options.split, "id_columns": options.id_columns}
    if options.shards is not None:
        kwargs["shards"] = options.shards
    if options.runner:
        rows = convert_on_beam(options.data, options.out, options.beam_args, **kwargs)
    else:
        rows = convert(options.data, options.out, **kwargs)
    if options.json:
        print_json(rows)
        return 0
    for name, count in rows.items():
        print(f"{options.out}{'/Split-' + name if name else ''}: {count:,} examples")
    return 0


def _dry_run(options: argparse.Namespace) -> int:
    from nightly.data import dry_run

    kwargs = _reading(options)
    if options.command == "convert":
        kwargs |= {"out": options.out, "gzip": options.gzip, "split": options.split, "id_columns": options.id_columns}
        kwargs |= {"shards": options.shards or 0}
    print_json(dry_run(options.data, options.beam_args, **kwargs))
    return 0


def _statistics_of(data: str, options: argparse.Namespace) -> Any:
    from nightly.data import statistics

    return statistics(data, **_reading(options))


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments that say how to read the data."""
    from nightly.data import read_schema

    schema = read_schema(options.schema) if options.schema else None
    return {"model": options.model, "schema": schema, "max_rejected_share": options.max_rejected_share}


def _schema(options: argparse.Namespace, needed: bool = False) -> Any:
    """Return the schema of --schema, or else the model's; None without either."""
    from nightly.data import read_schema
    from nightly.data.errors import DataError

    if options.schema:
        return read_schema(options.schema)
    if needed and not options.model:
        raise DataError("give --schema FILE or --model NAME; `schema infer` proposes a first one")
    return read_schema(load_config(options.model).folder) if options.model else None


def _examples(statistics: Any) -> str:
    return f"{int(statistics.datasets[0].num_examples):,}"


COMMANDS = {
    "statistics": _statistics,
    "infer": _infer,
    "show": _show,
    "validate": _validate,
    "drift": _compare,
    "skew": _compare,
    "compare": _compare,
    "convert": _convert,
}

if __name__ == "__main__":
    sys.exit(main())
