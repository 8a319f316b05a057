"""Which code ran: for the records of a night, and to know whether the same code would run again."""

import ast
import hashlib
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import accumulate
from pathlib import Path

from nightly.io import variables
from nightly.io.paths import ROOT

NAME = re.compile(r"(nightly|include)(\.\w+)+")  # a module of the project, or something in one


def code_version() -> str:
    """The project's commit, with `+changes` when its files differ; NIGHTLY_CODE_VERSION says it where git cannot."""
    if said := variables.CODE_VERSION.read():
        return said
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):  # no git, no repository, no commit, or one of another user
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def sources_of(names: Iterable[str], root: Path = ROOT) -> dict[str, str]:
    """Path -> sha256 of every source file of the project that running `names` (package.module.function) can reach.

    What a file imports is reached, and what it names in a string, since modules are also imported, or run, by name.
    Names outside of the project are left out.
    """
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        if not NAME.fullmatch(name := waiting.pop()):
            continue
        folder = "include/" if name.startswith("nightly.") else ""  # the package's, and that of include.models
        for part in accumulate(name.split("."), "{}/{}".format):  # a module, and the packages that it is in
            for file in (f"{part}.py", f"{part}/__init__.py"):
                if (key := folder + file) not in found and (path := root / key).is_file():
                    source = path.read_bytes()
                    found[key] = hashlib.sha256(source).hexdigest()
                    waiting += _names_in(source, tuple(file.split("/")[:-1]))
    return dict(sorted(found.items()))


@cache
def _names_in(source: bytes, package: tuple[str, ...]) -> tuple[str, ...]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # whoever runs it says so better
        return ()
    return tuple(_names_of(tree, package))


def _names_of(tree: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*parents, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
