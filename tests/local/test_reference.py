"""docs/reference: the pages are those that the code gives, and no key, variable or command is missing there."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.reference import commands, config
from nightly.io import variables
from nightly.io.paths import ROOT, Paths

PAGES = ROOT / "docs/reference"
SOURCES = ("include", "plugins", "local", "bin", "setup", "server", "client", "dags")
FILES = ("docker-compose.yaml", "docker-compose.gpu.yaml", "Dockerfile", "Makefile", "airflow.env", ".env.example")
INTERNAL = {"NIGHTLY_TASK_PID"}  # from the task to its step, for one process


def text_files() -> Iterator[Path]:
    yield from (ROOT / name for name in FILES)
    for folder in SOURCES:
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in ("", ".py") and path.is_file())
    yield ROOT / "tests/containers/__main__.py"


def page(name: str) -> str:
    return (PAGES / name).read_text()


@pytest.mark.slow
def test_the_pages_are_what_make_reference_writes():
    python = Paths.from_environment({}).ml_python
    done = subprocess.run([python, "-m", "local.reference", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_key_of_the_config_is_explained():
    text = page("config.md")
    for key in config.key_paths():
        section, _, name = key.rpartition(".")
        titles = rf"^## \[{re.escape(section)}\]" if section else "^## Top level"
        parts = [text[match.start() :].split("\n## ")[0] for match in re.finditer(titles, text, re.M)]
        rows = [re.search(rf"^\| `{name}` \|.*\| (.+) \|$", part, re.M) for part in parts]
        assert any(row and row[1].strip() for row in rows), key


def test_every_variable_is_in_the_table_and_on_the_page():
    known = {variable.name for group in variables.GROUPS.values() for variable in group}
    used = {name for path in text_files() for name in re.findall(r"\bNIGHTLY_[A-Z_]+[A-Z]\b", path.read_text())}
    assert used - INTERNAL <= known
    for variable in known:
        assert re.search(rf"^\| `{variable}` \|.*\| .+ \|$", page("variables.md"), re.M), variable


def test_variables_are_read_through_the_table():
    reading = re.compile(r"environ(?:ment)?(?:\.get\(|\[)\s*f?.NIGHTLY_")
    code = [path for path in text_files() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] != "setup"]
    readers = [str(path.relative_to(ROOT)) for path in code if reading.search(path.read_text())]
    assert readers == ["tests/containers/__main__.py"]  # which needs the standard library only


def test_every_setting_of_compose_is_on_the_page():
    for name in re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M):
        assert re.search(rf"^\| `{name}` \|.*\| .+ \|$", page("variables.md"), re.M), name


@pytest.mark.parametrize("name", commands.names())
def test_every_command_has_its_part(name):
    assert f"\n## {name}\n" in page("commands.md")


def test_no_command_line_is_without_a_name():
    """Each module of nightly.cli that can be run has a script in bin/, or is named by itself."""
    scripts = "".join(path.read_text() for path in (ROOT / "bin").iterdir())
    for path in (ROOT / "include/nightly/cli").glob("*.py"):
        module = f"nightly.cli.{path.stem}"
        if '__name__ == "__main__"' in path.read_text():
            assert module in scripts or f"python -m {module}" in commands.MODULES, module
            assert f"\n{'def parser('}" in path.read_text() or path.stem == "configure", module


def test_every_target_of_make_is_on_the_page():
    for target in re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M):
        assert re.search(rf"^\| `make {target}` \| .+ \|$", page("commands.md"), re.M), target
