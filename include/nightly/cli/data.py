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
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nightly.cli.data_arguments import beam_args, before_and_after, build_parser
from nightly.cli.data_printing import distance_json, print_distances, print_json, print_summary
from nightly.io.tables import print_table
from nightly.models import load_config, model_names
from nightly.records.base import ContractError


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    return build_parser(__doc__)


def main(words: Sequence[str]) -> int:
    words, behind = before_and_after("--", list(words))
    given = parser().parse_args(words)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("apache_beam").setLevel(logging.ERROR)  # its warnings are about Beam's own ways
    from nightly.data.errors import DataError
    from nightly.schemas.curated import SchemaError

    try:
        given.beam_args = beam_args(given, behind)
        return COMMANDS[given.run](given)
    except (DataError, ContractError, SchemaError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # its reader has seen enough, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # no permission, no space, a folder in the place of a file
        print(f"error: {error}", file=sys.stderr)
        return 2


def _statistics(given: argparse.Namespace) -> int:
    from nightly.data import save_statistics, statistics_on_beam, summary

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
        print_json({"examples": examples, "features": [asdict(row) for row in rows]})
        return 0
    print(f"{given.data}: {examples:,} rows, {len(rows)} features" + (f"; saved as {given.out}" if given.out else ""))
    print_summary(rows)
    return 0


def _infer(given: argparse.Namespace) -> int:
    from google.protobuf import text_format

    from nightly.data import first_schema, infer_schema, save_schema
    from nightly.data.errors import DataError
    from nightly.data.schemas import HEADER, schema_file

    out = schema_file(given.out) if given.out else None
    if out and out.exists():
        raise DataError(f"{out} exists, and a person may have worked on it: remove it first, or name another file")
    config = load_config(given.model) if given.model else None
    found = _measured(given.data, given)
    schema = first_schema(found, config) if config else infer_schema(found)
    if out:
        header = HEADER.format(model=config.name, data=given.data) if config else ""
        save_schema(schema, out, header)
        print(f"{out}: {len(schema.feature)} features; read and correct it before anything is held against it")
    else:
        print(text_format.MessageToString(schema, as_utf8=True), end="")
    return 0


def _show(given: argparse.Namespace) -> int:
    from nightly.data.schemas import read_schema, rows_of

    place = load_config(given.schema).folder if given.schema in model_names() else given.schema
    schema = read_schema(place)
    print_table(["FEATURE", "TYPE", "PRESENCE", "VALUES", "DOMAIN", "DRIFT", "SKEW", "NOT IN"], rows_of(schema))
    return 0


def _validate(given: argparse.Namespace) -> int:
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    from nightly.data import validate
    from nightly.data.schemas import listed

    schema = _schema(given, needed=True)
    found = listed(validate(_measured(given.data, given), schema, environment=given.environment))
    if given.json:
        print_json([asdict(one) for one in found])
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
    from nightly.data import drift, explained, infer_schema, skew, summary, with_thresholds
    from nightly.data.comparing import ANY

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
        print_json({"passed": passed, "features": [distance_json(distance, judged) for distance in distances]})
        return int(not passed)
    sides = [{row.name: row for row in summary(side)} for side in (now, before)]
    print(f"{given.now}: {_examples(now)} rows; {given.before}: {_examples(before)} rows")
    print_distances(distances, judged, *sides)
    return int(not passed)


def _convert(given: argparse.Namespace) -> int:
    from nightly.data import convert, convert_on_beam

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
        print_json(rows)
        return 0
    for name, count in rows.items():
        print(f"{given.out}{'/Split-' + name if name else ''}: {count:,} examples")
    return 0


def _dry_run(given: argparse.Namespace) -> int:
    from nightly.data import dry_run

    how = _how(given)
    if given.command == "convert":
        how |= {"out": given.out, "gzip": given.gzip, "split": given.split, "id_columns": given.id_columns}
        how |= {"shards": given.shards or 0}
    print_json(dry_run(given.data, given.beam_args, **how))
    return 0


def _measured(data: str, given: argparse.Namespace) -> Any:
    from nightly.data import statistics

    return statistics(data, **_how(given))


def _how(given: argparse.Namespace) -> dict[str, Any]:
    from nightly.data import read_schema

    schema = read_schema(given.schema) if given.schema else None
    return {"model": given.model, "schema": schema, "max_rejected_share": given.max_rejected_share}


def _schema(given: argparse.Namespace, needed: bool = False) -> Any:
    """--schema, else the model's."""
    from nightly.data import read_schema
    from nightly.data.errors import DataError

    if given.schema:
        return read_schema(given.schema)
    if needed and not given.model:
        raise DataError("give --schema FILE or --model NAME; `schema infer` proposes a first one")
    return read_schema(load_config(given.model).folder) if given.model else None


def _examples(found: Any) -> str:
    return f"{int(found.datasets[0].num_examples):,}"


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
    sys.exit(main(sys.argv[1:]))
