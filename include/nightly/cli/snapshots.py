"""List a model's snapshots, show one, compare each with its manifest, or apply the model's retention:

    bin/snapshots list MODEL [--json]
    bin/snapshots show MODEL SNAPSHOT [--rows N] [--json]
    bin/snapshots verify MODEL
    bin/snapshots prune MODEL

Exit status: 0 done, 1 a snapshot is damaged, 2 wrong arguments or configuration.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence

import pyarrow.parquet as pq

from nightly.cli.arguments import positive_int
from nightly.cli.errors import Parser, command
from nightly.io.paths import Paths
from nightly.io.space import free_bytes, megabytes
from nightly.io.tables import cell, print_table
from nightly.models import load_config
from nightly.records.night import SnapshotRef
from nightly.records.snapshot import SnapshotManifest
from nightly.snapshots.errors import DamagedSnapshotError
from nightly.snapshots.store import SnapshotStore
from nightly.state import current

LABELS = 10  # values that are shown
Nights = dict[str, list[tuple[str, SnapshotRef]]]


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser("bin/snapshots", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="every snapshot, the oldest first; damaged ones by file sizes")
    showing = commands.add_parser("show", help="one snapshot: its manifest and its first rows")
    verifying = commands.add_parser("verify", help="read every snapshot, and compare its hashes with its manifest's")
    pruning = commands.add_parser(
        "prune",
        help="apply [retention] and release.keep now: versions, snapshots, bodies, artifacts",
    )
    for subparser in (listing, showing, verifying, pruning):
        subparser.add_argument("model")
    for subparser in (listing, showing):
        subparser.add_argument("--json", action="store_true")
    showing.add_argument("snapshot", help="its id, or the beginning of it")
    showing.add_argument(
        "--rows", type=positive_int, default=5, metavar="N", help="how many rows to show (%(default)s)"
    )
    return parser


@command("bin/snapshots")
def main(args: Sequence[str] | None = None) -> int:
    options = parser().parse_args(args)
    with current().session(options.model) as paths:
        store = SnapshotStore(paths.snapshots, options.model)
        if not store.folder.is_dir():
            load_config(options.model)  # refuses a name that is no model's
        return COMMANDS[options.command](paths, store, options)


def _nights(paths: Paths, model: str) -> Nights:
    """Return snapshot id -> the nights that use it, by name, each with its snapshot record."""
    nights: Nights = defaultdict(list)
    for path in sorted((paths.nights / model).glob(f"*/{SnapshotRef.FILE}")):
        ref = SnapshotRef.load(path)
        nights[ref.snapshot_id].append((path.parent.name, ref))
    return nights


def _list(paths: Paths, store: SnapshotStore, options: argparse.Namespace) -> int:
    nights = _nights(paths, store.model)
    manifests, damaged = store.survey(content=False)
    if options.json:
        print(json.dumps([manifest.model_dump(mode="json") for manifest in manifests], indent=2))
    elif not manifests and not damaged:
        print(f"{store.model} has no snapshot yet.")
    else:
        header = ["SNAPSHOT", "CREATED", "ROWS", "FROM", "TO", "NIGHTS", "MB"]
        rows = [_summary(manifest, len(nights.get(manifest.snapshot_id, []))) for manifest in manifests]
        print_table(header, rows, right={2, 5, 6})
    return _print_damage(damaged)


def _verify(paths: Paths, store: SnapshotStore, options: argparse.Namespace) -> int:
    manifests, damaged = store.survey(content=True)
    print(f"{len(manifests)} snapshots of {store.model} are as their manifests say, {len(damaged)} are damaged.")
    return _print_damage(damaged)


def _prune(paths: Paths, store: SnapshotStore, options: argparse.Namespace) -> int:
    from nightly.tfx.retention import prune_model

    removed = prune_model(paths, load_config(options.model))
    print(f"removed {removed} of {options.model}; {megabytes(free_bytes(paths.var))} are free in {paths.var}")
    return 0


def _print_damage(damaged: list[DamagedSnapshotError]) -> int:
    for error in damaged:
        print(f"error: {error}", file=sys.stderr)
    return 1 if damaged else 0


def _summary(manifest: SnapshotManifest, nights: int) -> list[str]:
    return [
        manifest.snapshot_id[:12],
        f"{manifest.created_at:%Y-%m-%d %H:%M}",
        f"{manifest.rows:,}",
        *(f"{row:%Y-%m-%d}" if row else "-" for row in (manifest.first_row, manifest.last_row)),
        f"{nights:,}",
        f"{sum(file.bytes for file in manifest.files) / 1e6:.1f}",
    ]


def _show(paths: Paths, store: SnapshotStore, options: argparse.Namespace) -> int:
    manifest = store.verify(options.snapshot)
    if options.json:
        print(manifest.model_dump_json(indent=2))
        return 0
    facts = {
        "snapshot": manifest.snapshot_id,
        "folder": str(store.path(manifest.snapshot_id)),
        "rows": f"{manifest.rows:,} in {len(manifest.files)} files, each as its manifest says",
        "first, last row": f"{manifest.first_row}, {manifest.last_row}" if manifest.first_row else "have no time",
        "window": f"{manifest.window_start} to {manifest.window_end}",
        "label": _label(manifest),
        "created": f"{manifest.created_at} by code {manifest.code_version}",
        "schema": manifest.schema_fingerprint,
    }
    print_table([], [[key, value] for key, value in facts.items()])
    for origin in manifest.source:
        print(f"  from {origin}")
    _print_deliveries(_nights(paths, store.model).get(manifest.snapshot_id, []))
    rows = _first_rows(store, manifest, options.rows)
    print()
    print_table(["COLUMN", "TYPE", *(f"ROW {n + 1}" for n in range(len(rows)))], _transposed(manifest, rows))
    return 0


def _label(manifest: SnapshotManifest) -> str:
    """Return the rows of each label, the most frequent first; of a number, its median and range."""
    if not manifest.label_counts:
        return "absent"
    ordered = sorted(manifest.label_counts.items(), key=lambda item: -item[1])
    parts = [f"{value or 'blank'} {rows:,}" for value, rows in ordered[:LABELS]]
    if len(ordered) > LABELS:
        parts.append(f"and {len(ordered) - LABELS:,} more values")
    if numbers := manifest.label_quantiles:
        parts.append(f"median {numbers[len(numbers) // 2]:,.6g}, from {numbers[0]:,.6g} to {numbers[-1]:,.6g}")
    return ", ".join(parts)


def _print_deliveries(nights: list[tuple[str, SnapshotRef]]) -> None:
    """Print the delivery of each night that uses a snapshot. The same rows can be delivered in several ways."""
    deliveries = [(night, ref.delivery) for night, ref in nights if ref.delivery]
    if not deliveries:
        return
    print()
    counts = [
        [night, f"{each.rows:,}", f"{each.duplicate_rows:,}", f"{each.rejected_rows:,}", f"{len(each.truncated):,}"]
        for night, each in deliveries
    ]
    print_table(["NIGHT", "ROWS", "DUPLICATES", "REJECTED", "TRUNCATED FILES"], counts, right={1, 2, 3, 4})
    for night, delivery in deliveries:
        if delivery.not_known_yet or delivery.superseded:
            print(f"  {night}: {delivery.as_known}")
        for count in delivery.rejected:
            print(f"  {night}: {count.rows:,} rows rejected for {count.fault}, e.g. {count.place}")
        for body in delivery.truncated:
            print(f"  {night}: {body.file} is truncated: {body.reason}")
        for column in delivery.unnamed:
            print(f"  {night}: column {column.position} of {column.file} has no name; it is {column.column!r}")


def _first_rows(store: SnapshotStore, manifest: SnapshotManifest, count: int) -> list[dict]:
    rows: list[dict] = []
    for file in manifest.files:
        for batch in pq.ParquetFile(store.path(manifest.snapshot_id) / file.name).iter_batches(batch_size=1024):
            rows += batch.slice(0, count - len(rows)).to_pylist()
            if len(rows) >= count:
                return rows
    return rows


def _transposed(manifest: SnapshotManifest, rows: list[dict]) -> list[list[str]]:
    return [[name, kind, *(cell(row[name]) for row in rows)] for name, kind in manifest.columns.items()]


COMMANDS = {"list": _list, "show": _show, "verify": _verify, "prune": _prune}


if __name__ == "__main__":
    sys.exit(main())
