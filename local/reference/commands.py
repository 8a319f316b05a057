"""docs/reference/commands.md: every command, from the Makefile, the scripts in bin/ and their argument parsers."""

import argparse
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.reference.markdown import table
from nightly.io.paths import ROOT

HEAD = """# Commands

The commands in `bin/` run from any folder, in the environment that they need. A user's error is one line on standard
error with exit status 2.
"""
MODULES = {  # commands without a script -> the module of their parser
    "python -m nightly.cli.show": "nightly.cli.show",
    "python -m nightly.cli.configure": "nightly.cli.configure",
    "python -m nightly_server": "nightly_server.flags",
    "python -m local.up": "local.up",
    "python -m benchmarks": "benchmarks.__main__",
    "python -m tests.chaos": "tests.chaos.settings",
}
# The meanings of arguments without a help text.
MEANINGS = {
    "model": "the model: its folder's name in include/models",
    "version": "the version's number",
    "data": "a file, a folder, a quoted glob, a snapshot, or saved statistics",
    "json": "print JSON",
}
NOT_SHOWN = (None, False, "", argparse.SUPPRESS)  # defaults


def page() -> str:
    """Return the page's text."""
    return "\n".join([HEAD, *_targets(), *_scripts(), *_modules()])


def _targets() -> Iterator[str]:
    targets = re.findall(r"^([a-z-]+):.*?  ## (.*)$", (ROOT / "Makefile").read_text(), re.M)
    yield (
        "## make\n\n" + table(["command", "what it does"], [[f"`make {name}`", text] for name, text in targets]) + "\n"
    )


def _scripts() -> Iterator[str]:
    for script in sorted((ROOT / "bin").iterdir()):
        text = script.read_text()
        if not text.startswith("#!"):
            continue  # the other scripts source it
        module = re.search(r"run_(?:ml|airflow) (\S+)", text)
        yield f"## bin/{script.name}\n"
        if module:
            yield from _command(f"bin/{script.name}", importlib.import_module(module[1]))
        else:
            yield "\n".join(line.strip("# ") for line in re.match(r"#!.*\n((?:#.*\n)+)", text)[1].splitlines()) + "\n"


def _modules() -> Iterator[str]:
    for name, module in MODULES.items():
        yield f"## {name}\n"
        yield from _command(name, importlib.import_module(module))


def _command(name: str, module: Any) -> Iterator[str]:
    owner = getattr(module, "Settings", module)
    if not hasattr(owner, "parser"):
        yield f"```text\n{module.__doc__.strip()}\n```\n"
        return
    parser = owner.parser()
    text = (parser.description or "").strip()
    yield (f"```text\n{text}\n```" if "\n" in text else text) + "\n"
    yield from _arguments(name, parser)


def _arguments(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the parser's usage and arguments, then those of its subcommands."""
    actions = [action for action in parser._actions if action.dest != "help" and action.help != argparse.SUPPRESS]
    subcommands = [action for action in actions if isinstance(action, argparse._SubParsersAction)]
    arguments = [action for action in actions if action not in subcommands]
    if arguments:
        yield f"```text\n{' '.join([name, *_usage(arguments)])}\n```\n"
        yield table(["argument", "default", "meaning"], [_row(parser, action) for action in arguments]) + "\n"
    for action in subcommands:
        helps = {choice.dest: choice.help for choice in action._choices_actions}
        for subcommand, subparser in action.choices.items():
            yield f"### {name} {subcommand}\n"
            if helps.get(subcommand):
                yield f"{_sentence(helps[subcommand])}\n"
            yield from _arguments(f"{name} {subcommand}", subparser)


def _usage(actions: list[argparse.Action]) -> Iterator[str]:
    for action in actions:
        if not action.option_strings:
            yield {"?": "[{}]", "*": "[{} …]"}.get(action.nargs, "{}").format(_metavar(action))
        elif action.required:
            yield f"{action.option_strings[-1]} {_metavar(action)}"
    if any(action.option_strings and not action.required for action in actions):
        yield "[OPTIONS]"


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> list[str]:
    name = _metavar(action)
    if action.option_strings:
        value = {0: "", "?": f" [{name}]"}.get(action.nargs, f" {name}")
        name = ", ".join(action.option_strings) + value
    text = (action.help or MEANINGS.get(action.dest, "")).replace(" (%(default)s)", "")
    text = _without_root(text % {**vars(action), "prog": parser.prog})
    choices = " or ".join(f"`{choice}`" for choice in action.choices or ())
    default = "required" if action.required and action.option_strings else ""
    if action.default != [] and not any(action.default is value for value in NOT_SHOWN):
        default = f"`{_without_root(action.default)}`"
    return [f"`{name}`", default, "; ".join(filter(None, [text, choices]))]


def _metavar(action: argparse.Action) -> str:
    return str(action.metavar or action.dest.upper())


def _without_root(value: object) -> str:
    return str(value).replace(f"{ROOT}/", "")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "."


def names() -> list[str]:
    """Return every command that has a heading."""
    scripts = [path for path in sorted((ROOT / "bin").iterdir()) if Path(path).read_text().startswith("#!")]
    return [*(f"bin/{script.name}" for script in scripts), *MODULES]
