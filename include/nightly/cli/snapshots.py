"""List a model's snapshots, show one, compare each with its manifest, or apply the model's retention.

python -m nightly.cli.snapshots list MODEL [--json]
python -m nightly.cli.snapshots show MODEL SNAPSHOT [--rows N] [--json]
python -m nightly.cli.snapshots verify MODEL
python -m nightly.cli.snapshots prune MODEL

Ends with 1 where a snapshot is damaged, and with 2 where it could not be done; the error says why.
"""

import argparse
import json
import sys
from collections import defaultdict

import pyarrow.parquet as pq

from nightly.cli.arguments import positive_int
from nightly.io.hints import did_you_mean
from nightly.io.paths import Places
from nightly.io.space import free_bytes, megabytes
from nightly.io.tables import cell, print_table
from nightly.models import load_config, model_names
from nightly.nights.snapshot import retain
from nightly.records.base import ContractError
from nightly.records.night import SnapshotRef
from nightly.records.snapshot import SnapshotManifest
from nightly.release.errors import ReleaseError
from nightly.release.store import ReleaseStore
from nightly.snapshots.errors import DamagedSnapshotError, SnapshotError
from nightly.snapshots.store import SnapshotStore

Nights = dict[str, list[tuple[str, SnapshotRef]]]


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(prog="python -m nightly.cli.snapshots", description="The snapshots of a model.")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="every snapshot, the oldest first; damaged ones by file sizes")
    showing = commands.add_parser("show", help="one snapshot: its manifest and its first rows")
    verifying = commands.add_parser("verify", help="read every snapshot, and compare its hashes with its manifest's")
    pruning = commands.add_parser(
        "prune", help="apply [retention] and release.keep now, not in the next night: versions, snapshots, artifacts"
    )
    for command in (listing, showing, verifying, pruning):
        command.add_argument("model")
    for command in (listing, showing):
        command.add_argument("--json", action="store_true")
    showing.add_argument("snapshot", help="its id, or the beginning of it")
    showing.add_argument(
        "--rows", type=positive_int, default=5, metavar="N", help="how many rows to show (%(default)s)"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        places = Places.from_environment()
        store = SnapshotStore(places.snapshots, given.model)
        if not store.folder.is_dir():
            _check_model(given.model)
        if given.command == "verify":
            return _verify(store)
        if given.command == "prune":
            return _prune(places, given.model)
        nights = _nights(places, given.model)
        return _list(store, nights, given.json) if given.command == "list" else _show(store, nights, given)
    except DamagedSnapshotError as error:
        return _print_damage([error])
    except (SnapshotError, ReleaseError, ContractError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _check_model(model: str) -> None:
    if model not in model_names():
        raise ContractError(f"there is no model {model!r}" + did_you_mean(model, model_names()))
    load_config(model)


def _nights(places: Places, model: str) -> Nights:
    """snapshot id -> the nights that use it, each with what was delivered for it; by name."""
    nights: Nights = defaultdict(list)
    for path in sorted((places.nights / model).glob("*/snapshot.json")):
        ref = SnapshotRef.load(path)
        nights[ref.snapshot_id].append((path.parent.name, ref))
    return nights


def _list(store: SnapshotStore, nights: Nights, as_json: bool) -> int:
    manifests, damaged = store.survey(content=False)
    if as_json:
        print(json.dumps([manifest.model_dump(mode="json") for manifest in manifests], indent=2))
    elif not manifests and not damaged:
        print(f"{store.model} has no snapshot yet.")
    else:
        header = ["SNAPSHOT", "CREATED", "ROWS", "FROM", "TO", "NIGHTS", "MB"]
        rows = [_summary(manifest, len(nights.get(manifest.snapshot_id, []))) for manifest in manifests]
        print_table(header, rows, right={2, 5, 6})
    return _print_damage(damaged)


def _verify(store: SnapshotStore) -> int:
    manifests, damaged = store.survey(content=True)
    print(f"{len(manifests)} snapshots of {store.model} are as their manifests say, {len(damaged)} are damaged.")
    return _print_damage(damaged)


def _prune(places: Places, model: str) -> int:
    """Do what a night does in its steps `release`, `snapshot` and `examples`, whichever of them it has no room for."""
    from nightly.tfx.metadata import NightlyMetadata
    from nightly.tfx.retention import prune

    config = load_config(model)
    versions = ReleaseStore(places.serving, places.releases, model).retain(config.release.keep)
    snapshots = retain(places, config, set())
    with NightlyMetadata(places, model) as handle:
        artifacts = prune(handle, places.pipeline / model, config.retention.runs)
    removed = f"{len(versions)} versions, {len(snapshots)} snapshots and {artifacts} artifacts"
    print(f"removed {removed} of {model}; {megabytes(free_bytes(places.var))} are free in {places.var}")
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
        f"{manifest.first_row:%Y-%m-%d}",
        f"{manifest.last_row:%Y-%m-%d}",
        f"{nights:,}",
        f"{sum(file.bytes for file in manifest.files) / 1e6:.1f}",
    ]


def _show(store: SnapshotStore, nights: Nights, given: argparse.Namespace) -> int:
    manifest = store.verify(given.snapshot)
    if given.json:
        print(manifest.model_dump_json(indent=2))
        return 0
    facts = {
        "snapshot": manifest.snapshot_id,
        "folder": str(store.path(manifest.snapshot_id)),
        "rows": f"{manifest.rows:,} in {len(manifest.files)} files, each as its manifest says",
        "first, last row": f"{manifest.first_row}, {manifest.last_row}",
        "window": f"{manifest.window_start} to {manifest.window_end}",
        "label": ", ".join(f"{value or 'blank'} {rows:,}" for value, rows in manifest.label_counts.items()) or "absent",
        "made": f"{manifest.created_at} by code {manifest.code_version}",
        "schema": manifest.schema_fingerprint,
    }
    print_table([], [[key, value] for key, value in facts.items()])
    for origin in manifest.source:
        print(f"  from {origin}")
    _print_deliveries(nights.get(manifest.snapshot_id, []))
    rows = _first_rows(store, manifest, given.rows)
    print()
    print_table(["COLUMN", "TYPE", *(f"ROW {n + 1}" for n in range(len(rows)))], _transposed(manifest, rows))
    return 0


def _print_deliveries(nights: list[tuple[str, SnapshotRef]]) -> None:
    """What came for each night that uses a snapshot: the same rows can be delivered in several ways."""
    delivered = [(night, ref.delivery) for night, ref in nights if ref.delivery]
    if not delivered:
        return
    print()
    counts = [
        [night, f"{came.rows:,}", f"{came.duplicate_rows:,}", f"{came.rejected_rows:,}", f"{len(came.truncated):,}"]
        for night, came in delivered
    ]
    print_table(["NIGHT", "ROWS", "DUPLICATES", "REJECTED", "TRUNCATED FILES"], counts, right={1, 2, 3, 4})
    for night, came in delivered:
        for count in came.rejected:
            print(f"  {night}: {count.rows:,} rows rejected for {count.fault}, e.g. {count.example!r}")
        for body in came.truncated:
            print(f"  {night}: {body.file} is truncated: {body.reason}")


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


if __name__ == "__main__":
    sys.exit(main())
