"""Measure the project, side by side with TFX as it comes: python -m benchmarks [NAME …] [--quick]

Without names every benchmark runs in turn. Each is a separate process in a copy of the project in a temporary folder,
where the `complaints` model reads synthetic complaints (complaints.toml). Nothing is written to var/, and no process
remains. Results go to benchmarks/results.json, and from there into docs/performance.md. `--quick` uses small sizes to
check that everything works, and writes neither.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report
from nightly.io.code import code_version
from nightly.io.paths import ROOT, Paths, python_path

NAMES = (
    "night",
    "large_night",
    "unchanged",
    "two_models",
    "backfill",
    "components",
    "training",
    "start",
    "scaling",
    "parse",
    "state",
    "sources",
    "serving",
    "gate_noise",
    "new_model",
)
NOT_COPIED = (".git", ".venv", "var", "tests", "docs", "__pycache__", ".*_cache")
KEPT = ("NIGHTLY_ML_PYTHON", "NIGHTLY_VENVS")  # the paths of the environments


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="small sizes; nothing is written")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder, removed at the end)")
    return parser


def main(args: list[str]) -> int:
    arguments = parser().parse_args(args)
    for name in arguments.names:
        if name not in NAMES:
            parser().error(f"there is no benchmark {name!r}; there are {', '.join(NAMES)}")

    folder = (arguments.folder or Path(tempfile.mkdtemp(prefix="nightly-bench-"))).absolute()
    began, failed, goals = time.monotonic(), [], []
    code = code_version()  # before the first result changes the files
    try:
        copy = copy_project(folder / "project")
        for name in arguments.names or NAMES:
            print(f"{name} …", flush=True)
            result = run(name, copy, folder / name, code, quick=arguments.quick)
            if result is None:
                failed.append(name)
            else:
                print(report.as_text(name, result))
                goals += result["goals"]
                if not arguments.quick:
                    report.keep(name, result)
            if not arguments.folder:
                shutil.rmtree(folder / name, ignore_errors=True)
    finally:
        if not arguments.folder:
            shutil.rmtree(folder, ignore_errors=True)
    unmet = [goal["what"] for goal in goals if not goal["met"]]
    print(f"{(time.monotonic() - began) / 60:.0f} minutes; {len(goals) - len(unmet)} of {len(goals)} goals met")
    for label, names in (("not met", unmet), ("failed", failed)):
        if names:
            print(f"{label}: {'; '.join(names)}")
    return 1 if failed else 0


def copy_project(copy: Path) -> Path:
    """Copy the project, with another config of `complaints`, and link its environments."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    (copy / ".venv").symlink_to(ROOT / ".venv")
    config = (ROOT / "benchmarks/complaints.toml").read_text()
    models = copy / "include/models"
    (models / "complaints/config.toml").write_text(config)
    # The same model on Beam, for comparison.
    shutil.copytree(models / "complaints", models / "complaints_beam")
    (models / "complaints_beam/config.toml").write_text(config + '\n[pipeline]\nengine = "beam"\n')
    return copy


def run(name: str, copy: Path, folder: Path, code: str, *, quick: bool) -> dict | None:
    """Run a benchmark and return its result; None if it failed, after it printed why."""
    shutil.rmtree(folder, ignore_errors=True)
    result = folder.with_suffix(".json")
    environment = {
        key: value for key, value in os.environ.items() if key in KEPT or not key.startswith(("AIRFLOW", "NIGHTLY_"))
    }
    # If it is set, every process would compile the project anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment |= {"PYTHONPATH": python_path(copy), "PYTHONUNBUFFERED": "1", "NIGHTLY_CODE_VERSION": code}
    environment |= {"NIGHTLY_VAR": str(folder / "var"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    python = Paths.from_environment().ml_python
    command = [python, "-m", f"benchmarks.{name}", folder, result, *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=copy, env=environment)
    return json.loads(result.read_text()) if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
