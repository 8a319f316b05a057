"""Print what was decided about the data, and the next command."""

import textwrap

from nightly.io.paths import ROOT
from nightly.new_model.creating import Created
from nightly.new_model.gates import duplicate_share, keeps_equal_rows
from nightly.new_model.proposal import Proposal

WIDTH = 110
TITLE = 11
SHOWN = 8  # columns that are named in a line


def show_proposal(proposal: Proposal) -> None:
    """Print what each column is for, with reasons."""
    table, roles, label = proposal.table, proposal.roles, proposal.label
    print(f"{proposal.origin}: {table.rows:,} rows, {len(table.columns)} columns", end="")
    print(f"; the following is based on a sample of {table.sample.num_rows:,} of them" if table.is_sampled else "")
    if table.rejected:
        _line("", f"{table.rejected:,} rows cannot be read, and every night leaves them out")
    _line("label", f"{label.column}, {label.kind} ({proposal.label_why}): {label.why}")
    if proposal.time and proposal.window:
        time = proposal.time
        _line("time", f"{time.column}, {time.format}: {time.first:%Y-%m-%d} to {time.last:%Y-%m-%d}")
        _line("window", f"{proposal.window.look_back_days} days: {proposal.window.why}")
    else:
        _line("time", "none: every night reads all rows")
    if changed_at := proposal.source.get("changed_at"):
        _line("changes", f"{changed_at}, by its name: a night reads only the days in which it differs")
    _line("id", f"{' + '.join(roles.ids) or 'the whole row'}: {roles.id_reason}")
    if keeps_equal_rows(proposal):
        _line("", f"{duplicate_share(proposal):.1%} of the rows are equal to another in all columns; all are kept")
    for group, names in roles.groups.items():
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            _line(group.replace("_", " "), ", ".join(names[:SHOWN]) + more)
    for number, (name, reason) in enumerate(list(roles.ignored.items())[: 2 * SHOWN]):
        _line("" if number else "left out", f"{name}: {reason}")
    if len(roles.ignored) > 2 * SHOWN:
        _line("", f"and {len(roles.ignored) - 2 * SHOWN} more: see config.toml")
    for number, doubt in enumerate(proposal.doubts):
        _line("" if number else "look at", doubt)


def show_end(created: Created, seconds: float) -> None:
    """Print how thresholds came about, what was written, and what to do next."""
    name, history = created.proposal.name, created.history
    _line("thresholds", history.measured or f"wide defaults: {history.missing}")
    _line("wrote", " and ".join(_short(path) for path in created.written) + f", in {seconds:.0f} s")
    print(f"\nRun its first night:\n  bin/night {name}\n")
    print(
        f"Then read include/models/{name}/config.toml and schema.pbtxt: guesses have a question mark, or say default.\n"
        "features.py says what the model reads; you can replace preprocessing.py and model.py."
    )


def _line(title: str, text: str) -> None:
    print(textwrap.fill(f"{title:<{TITLE}}{text}", WIDTH, initial_indent="  ", subsequent_indent=" " * (TITLE + 2)))


def _short(path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
