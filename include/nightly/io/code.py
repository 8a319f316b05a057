"""Identify the code that runs: its version for the records, and the hashes of its sources for the cache."""

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

NAME = re.compile(r"(nightly|include)(\.\w+)+")  # a module of the project, or a name in one


def code_version() -> str:
    """Return NIGHTLY_CODE_VERSION, else the project's commit, with `+changes` if its files differ."""
    if version := variables.CODE_VERSION.read():
        return version
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):  # no git, no commit, no repository, or another user's repository
        return "unknown"


def _git(*args: str) -> str:
    done = subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def sources_of(names: Iterable[str], root: Path = ROOT) -> dict[str, str]:
    """Return path -> sha256 of every source file of the project that `names` (package.module.function) can reach.

    A file reaches its imports, and the modules that it names in strings, since modules are also imported or run by
    name. Names outside the project are ignored.
    """
    hashes: dict[str, str] = {}
    pending = list(names)
    while pending:
        if not NAME.fullmatch(name := pending.pop()):
            continue
        folder = "include/" if name.startswith("nightly.") else ""  # include.models has the prefix in its name
        for part in accumulate(name.split("."), "{}/{}".format):  # the module and its packages
            for file in (f"{part}.py", f"{part}/__init__.py"):
                if (key := folder + file) not in hashes and (path := root / key).is_file():
                    source = path.read_bytes()
                    hashes[key] = hashlib.sha256(source).hexdigest()
                    pending += _names_in(source, tuple(file.split("/")[:-1]))
    return dict(sorted(hashes.items()))


@cache
def _names_in(source: bytes, package: tuple[str, ...]) -> tuple[str, ...]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # importing the file reports this better
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
