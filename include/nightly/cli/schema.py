"""A model's schema and its versions: `python -m nightly.cli.schema versions|show|diff|approve|reject|adopt MODEL …`.

versions  every version: what it changed, who approved it and why, and whether it holds
show      the text of the one that holds, or of VERSION (0 is the curated one)
diff      what RUN proposes, with its evidence; or, without RUN, what the one that holds has changed in the curated one
approve   write the version that RUN proposes: later nights use it, and RUN when it is cleared at `snapshot`
reject    record that what RUN proposes is not wanted
adopt     put the one that holds into the model's folder, to be committed
"""

import argparse
import difflib
import getpass
import sys

from nightly.io.hints import did_you_mean
from nightly.io.paths import Places
from nightly.models import load_config
from nightly.records.base import ContractError
from nightly.records.schema import PROPOSAL, SchemaProposal
from nightly.schemas.store import SchemaStore, SchemaVersionError, answer


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        "python -m nightly.cli.schema", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    night = "the night's run id, or the name of its folder"
    for name in ("versions", "show", "diff", "approve", "reject", "adopt"):
        command = commands.add_parser(name)
        command.add_argument("model")
        if name == "show":
            command.add_argument("version", type=int, nargs="?")
        if name in ("diff", "approve", "reject"):
            command.add_argument("run", nargs="?" if name == "diff" else None, help=night)
        if name in ("approve", "reject"):
            command.add_argument("--reason", required=True, help="stands in the records")
    return parser


def main(words: list[str]) -> int:
    given = parser().parse_args(words)
    places = Places.from_environment()
    try:
        load_config(given.model)  # refuses a name that is no model's
        store = SchemaStore(places, given.model)
        print(COMMANDS[given.command](store, places, given))
    except (SchemaVersionError, ContractError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def versions(store: SchemaStore, places: Places, given: argparse.Namespace) -> str:
    held, lines = store.current(), []
    for one in reversed(store.versions()):
        state = "holds" if one.version == held else "replaced" if held else "superseded"
        changes = ", ".join(f"{change.feature}: {change.kind}" for change in one.changes)
        lines.append(f"{one.version:<3} {state:<11} {one.approved_at:%Y-%m-%d %H:%M}  {one.approved_by}: {one.reason}")
        lines.append(f"{'':<16}of {one.run_id}: {changes}")
    note = store.note(0) if not held else ""
    curated = "holds" if not held else "the base"
    return "\n".join([*lines, f"0   {curated:<11} {store.curated}" + (f"\n{'':<16}{note}" if note else "")])


def show(store: SchemaStore, places: Places, given: argparse.Namespace) -> str:
    return store.text(store.current() if given.version is None else given.version).rstrip("\n")


def difference(store: SchemaStore, places: Places, given: argparse.Namespace) -> str:
    if given.run is None:
        held = store.current()
        texts = [store.text(version).splitlines() for version in (0, held)]
        return "\n".join(difflib.unified_diff(*texts, "the curated one", f"version {held}", lineterm=""))
    proposal = _proposal(places, given)
    lines = []
    for change in proposal.changes:
        lines.append(f"{change.feature}: {change.kind}: {' -> '.join(filter(None, (change.old, change.new)))}")
        lines += [f"  {value.value}: {value.rows:,} rows ({value.share:.1%})" for value in change.values]
        lines += [f"  e.g. {', '.join(change.rows)}"] if change.rows else []
        lines.append(f"  {change.risk}")
    left = ["", "The night would still be held:", *(f"  {one}" for one in proposal.left)] if proposal.left else []
    return "\n".join([*lines, *left, "", proposal.diff])


def approve(store: SchemaStore, places: Places, given: argparse.Namespace) -> str:
    _proposal(places, given)
    folder = places.night(given.model, given.run)
    review = answer(places, given.model, folder, approved=True, by=getpass.getuser(), reason=given.reason)
    return (
        f"version {review.version} of {given.model}'s schema holds from now on. If the night still waits in Airflow, "
        f"approve there too; if it has ended, clear its task `snapshot` with what is downstream."
    )


def reject(store: SchemaStore, places: Places, given: argparse.Namespace) -> str:
    _proposal(places, given)
    folder = places.night(given.model, given.run)
    review = answer(places, given.model, folder, approved=False, by=getpass.getuser(), reason=given.reason)
    held = store.current()
    holds = any(one.version == held for one in review.earlier if one.version)
    on = f" Version {held} holds on: edit {store.curated} to supersede it." if holds else ""
    return f"{review.sentence}.{on} If the night still waits in Airflow, reject it there too: it waits on otherwise."


def adopt(store: SchemaStore, places: Places, given: argparse.Namespace) -> str:
    return f"{store.adopt().title} is in {store.curated} now: commit it"


def _proposal(places: Places, given: argparse.Namespace) -> SchemaProposal:
    path = places.night(given.model, given.run) / PROPOSAL
    try:
        return SchemaProposal.load(path)
    except FileNotFoundError:
        there = sorted(one.parent.name for one in path.parent.parent.glob(f"*/{PROPOSAL}"))
        known = did_you_mean(path.parent.name, there) if there else "; no night does"
        raise SchemaVersionError(f"{given.run} of {given.model} proposes no change of the schema{known}") from None


COMMANDS = {
    "versions": versions,
    "show": show,
    "diff": difference,
    "approve": approve,
    "reject": reject,
    "adopt": adopt,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
