"""Look at a model's schema and its versions, and answer a proposed change:

bin/schema versions MODEL                  every version: what it changed, who approved it and why
bin/schema show MODEL [VERSION]            its text; of the one in force by default, 0 is the curated one
bin/schema diff MODEL [RUN]                what RUN proposes, with its evidence; or what the curated one lacks
bin/schema approve MODEL RUN --reason WHY  later nights use it, and RUN when it is cleared at `snapshot`
bin/schema reject MODEL RUN --reason WHY   reject the change that RUN proposes
bin/schema adopt MODEL                     put the one in force into the model's folder, to be committed
"""

import argparse
import difflib
import getpass
import sys
from collections.abc import Sequence

from nightly.cli.errors import Parser, command
from nightly.io.hints import did_you_mean
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.schema import SchemaProposal
from nightly.schemas.store import SchemaStore, SchemaVersionError, answer
from nightly.state import current


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser("bin/schema", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    texts = {
        "versions": "every version there has been",
        "show": "the text of a version",
        "diff": "what a night proposes, or what has changed in the curated schema",
        "approve": "write the version that a night proposes",
        "reject": "reject the change that a night proposes",
        "adopt": "copy the valid schema into the model's folder",
    }
    for name, text in texts.items():
        subparser = commands.add_parser(name, help=text, description=text)
        subparser.add_argument("model")
        if name == "show":
            subparser.add_argument("version", type=int, nargs="?")
        if name in ("diff", "approve", "reject"):
            night = "the night's run id, or the name of its folder"
            subparser.add_argument("run", nargs="?" if name == "diff" else None, help=night)
        if name in ("approve", "reject"):
            subparser.add_argument("--reason", required=True, help="why; recorded with the answer")
    return parser


@command("bin/schema")
def main(args: Sequence[str] | None = None) -> int:
    options = parser().parse_args(args)
    load_config(options.model)  # refuses a name that is no model's
    with current().session(options.model) as paths:
        print(COMMANDS[options.command](SchemaStore(paths, options.model), paths, options))
    return 0


def versions(store: SchemaStore, paths: Paths, options: argparse.Namespace) -> str:
    current, lines = store.current(), []
    for schema in reversed(store.versions()):
        state = "holds" if schema.version == current else "replaced" if current else "superseded"
        changes = ", ".join(f"{change.feature}: {change.kind}" for change in schema.changes)
        approval = f"{schema.approved_at:%Y-%m-%d %H:%M}  {schema.approved_by}: {schema.reason}"
        lines += [f"{schema.version:<3} {state:<11} {approval}", f"{'':<16}of {schema.run_id}: {changes}"]
    note = store.note(0) if not current else ""
    curated = "holds" if not current else "the base"
    return "\n".join([*lines, f"0   {curated:<11} {store.curated}" + (f"\n{'':<16}{note}" if note else "")])


def show(store: SchemaStore, paths: Paths, options: argparse.Namespace) -> str:
    return store.text(store.current() if options.version is None else options.version).rstrip("\n")


def difference(store: SchemaStore, paths: Paths, options: argparse.Namespace) -> str:
    if options.run is None:
        current = store.current()
        if not current:
            return "the curated schema is in force: there is no approved version to compare it with"
        texts = [store.text(version).splitlines() for version in (0, current)]
        return "\n".join(difflib.unified_diff(*texts, "the curated one", f"version {current}", lineterm=""))
    proposal = _proposal(paths, options)
    lines = []
    for change in proposal.changes:
        lines.append(f"{change.feature}: {change.kind}: {' -> '.join(filter(None, (change.old, change.new)))}")
        lines += [f"  {value.value}: {value.rows:,} rows ({value.share:.1%})" for value in change.values]
        lines += [f"  e.g. {', '.join(change.rows)}"] if change.rows else []
        lines.append(f"  {change.risk}")
    left = ["", "The night would still be held:", *(f"  {item}" for item in proposal.left)] if proposal.left else []
    return "\n".join([*lines, *left, "", proposal.diff])


def approve(store: SchemaStore, paths: Paths, options: argparse.Namespace) -> str:
    _proposal(paths, options)
    folder = paths.night(options.model, options.run)
    review = answer(paths, options.model, folder, approved=True, by=getpass.getuser(), reason=options.reason)
    return (
        f"version {review.version} of {options.model}'s schema is valid from now on. If the night still waits in "
        f"Airflow, approve there too; if it has ended, clear its task `snapshot` with everything downstream."
    )


def reject(store: SchemaStore, paths: Paths, options: argparse.Namespace) -> str:
    _proposal(paths, options)
    folder = paths.night(options.model, options.run)
    review = answer(paths, options.model, folder, approved=False, by=getpass.getuser(), reason=options.reason)
    current = store.current()
    approved_before = any(answer.version == current for answer in review.earlier if answer.version)
    hint = f" Version {current} stays valid: edit {store.curated} to supersede it." if approved_before else ""
    return f"{review.sentence}.{hint} If the night still waits in Airflow, reject it there too, or it goes on waiting."


def adopt(store: SchemaStore, paths: Paths, options: argparse.Namespace) -> str:
    return f"{store.adopt().title} is in {store.curated} now: commit it"


def _proposal(paths: Paths, options: argparse.Namespace) -> SchemaProposal:
    path = paths.night(options.model, options.run) / SchemaProposal.FILE
    try:
        return SchemaProposal.load(path)
    except FileNotFoundError:
        runs = sorted(proposal.parent.name for proposal in path.parent.parent.glob(f"*/{SchemaProposal.FILE}"))
        hint = did_you_mean(path.parent.name, runs) if runs else "; no night does"
        raise SchemaVersionError(f"{options.run} of {options.model} proposes no change of the schema{hint}") from None


COMMANDS = {
    "versions": versions,
    "show": show,
    "diff": difference,
    "approve": approve,
    "reject": reject,
    "adopt": adopt,
}


if __name__ == "__main__":
    sys.exit(main())
