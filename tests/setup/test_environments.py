"""The set-up: what it refuses, what it skips, and where it takes things from."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from setup import c_runtime, environments, project
from setup.__main__ import main
from setup.errors import SetupError

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A machine on which nothing is set up: the folder of the environments, which does not exist."""
    monkeypatch.setattr(environments, "VENVS", tmp_path / "venvs")
    monkeypatch.setattr(environments, "C_RUNTIME", tmp_path / "venvs/c-runtime")
    return tmp_path / "venvs"


def _pretend_to_be_a_mac(monkeypatch):
    monkeypatch.setattr(environments.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(environments.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(environments.platform, "libc_ver", lambda: ("", ""))


def test_a_second_run_costs_a_file_comparison(tmp_path):
    for name in ("airflow", "ml", "lint"):
        (tmp_path / name / "lib/python3/site-packages").mkdir(parents=True)
        for lock, stamp in ((name, "installed.txt"), ("dev", "installed-dev.txt")):
            (tmp_path / name / stamp).write_text(environments._fingerprint(ROOT / environments.LOCKS[lock]))
    done = subprocess.run(
        [sys.executable, "-m", "setup", "airflow", "ml", "dev", "lint"],
        cwd=ROOT,
        env=os.environ | {"NIGHTLY_VENVS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "nothing is set up again"
    assert {path.parts[-5] for path in tmp_path.rglob(project.NAME)} == {"airflow", "ml", "lint"}


@pytest.mark.parametrize("options", [[], ["-P"]])
def test_the_project_is_imported_from_anywhere_without_settings(options, tmp_path):
    """Each folder that python_path names is in the environment, whatever folder a process starts in."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    project.link(tmp_path / "venv")
    script = "import include.models, nightly.io.paths, nightly_airflow, nightly_server.flags; "
    script += "print(nightly.io.paths.python_path())"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [tmp_path / "venv/bin/python", *options, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob(f"venv/lib/*/site-packages/{project.NAME}")
    assert [Path(folder) for folder in done.stdout.strip().split(os.pathsep)] == [
        Path(folder) for folder in file.read_text().split()
    ]


def test_a_project_that_has_moved_is_linked_anew(tmp_path):
    (tmp_path / "lib/python3/site-packages").mkdir(parents=True)
    file = tmp_path / "lib/python3/site-packages" / project.NAME
    file.write_text("/where/it/was\n")
    project.link(tmp_path)
    assert file.read_text().split()[0] == str(ROOT)


def test_an_unknown_word_is_answered_with_the_usage():
    done = subprocess.run([sys.executable, "-m", "setup", "mll"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "airflow" in done.stderr


def test_a_python_that_tfx_has_no_wheel_for_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr(environments.sys, "version_info", (3, 10, 12))
    with pytest.raises(SetupError, match=r"3\.11 to 3\.13.*make PYTHON="):
        environments.check_machine()


def test_a_machine_that_tensorflow_has_no_wheel_for_is_refused(monkeypatch):
    monkeypatch.setattr(environments.platform, "machine", lambda: "riscv64")
    with pytest.raises(SetupError, match="riscv64"):
        environments.check_machine()


@pytest.mark.parametrize(
    ("system", "machine", "library"),
    [("Linux", "x86_64", ""), ("Linux", "aarch64", "glibc"), ("Darwin", "x86_64", ""), ("Windows", "AMD64", "")],
)
def test_machines_without_wheels_are_refused_with_what_to_do(system, machine, library, monkeypatch):
    monkeypatch.setattr(environments.platform, "system", lambda: system)
    monkeypatch.setattr(environments.platform, "machine", lambda: machine)
    monkeypatch.setattr(environments.platform, "libc_ver", lambda: (library, ""))
    with pytest.raises(SetupError, match=rf"this is {system}.* on {machine}\. Use the Dockerfile"):
        environments.check_machine()


def test_macos_on_apple_silicon_is_set_up_without_a_private_c_runtime(monkeypatch):
    _pretend_to_be_a_mac(monkeypatch)
    environments.check_machine()
    assert not c_runtime.is_needed()


def test_macos_without_a_compiler_is_refused_for_the_package_that_needs_it(fresh, monkeypatch):
    _pretend_to_be_a_mac(monkeypatch)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SetupError, match=r"pyfarmhash has no wheel for macOS.*xcode-select --install"):
        environments.prepare(["ml"])


def test_a_python_without_ensurepip_is_refused_with_the_package_to_install(fresh, monkeypatch):
    monkeypatch.setattr(environments.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SetupError, match="apt-get install python3-venv"):
        environments.prepare(["lint"])


def test_a_full_disk_is_refused_with_the_space_that_is_needed(fresh, monkeypatch):
    monkeypatch.setattr(environments.shutil, "disk_usage", lambda _: SimpleNamespace(free=3000 * 2**20))
    with pytest.raises(SetupError, match=r"3000 MB free, and airflow and ml need \d+ MB\..*NIGHTLY_VENVS"):
        environments.prepare(["airflow", "ml"])


def test_a_c_runtime_that_cannot_be_had_is_said_before_anything_is_installed(fresh, monkeypatch, capsys):
    monkeypatch.setattr(environments.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(environments.platform, "system", lambda: "Linux")
    monkeypatch.setenv("PATH", "")  # no apt-get
    assert main(["airflow", "ml"]) == 1
    assert "has glibc 2.36 and no apt-get to download a newer one" in capsys.readouterr().err
    assert not fresh.exists()


@pytest.mark.skipif(not shutil.which("apt-get"), reason="needs apt-get")
def test_the_systems_mirror_is_known_where_the_package_lists_were_deleted(tmp_path, monkeypatch):
    (tmp_path / "lists/partial").mkdir(parents=True)
    (tmp_path / "apt.conf").write_text(f'Dir::State::lists "{tmp_path}/lists";\n')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    mirrors = c_runtime._mirrors(platform.freedesktop_os_release()["VERSION_CODENAME"])
    assert mirrors and all("://" in mirror for mirror in mirrors)


# Source packages in the locks that hold Python code only: to build them no compiler is needed.
PURE = ("google-apitools", "kfp-server-api", "rouge-score")


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.11", "3.13"])
@pytest.mark.parametrize("lock", ["airflow", "ml"])
@pytest.mark.parametrize(("wheels_for", "built"), [("x86_64-manylinux_2_40", ()), ("macos", ("pyfarmhash",))])
def test_every_package_comes_as_a_wheel(python, lock, wheels_for, built, tmp_path):
    """By dry resolution against the package index; only on macOS one package is compiled."""
    packages = re.split(r"\n(?=\w)", (ROOT / environments.LOCKS[lock]).read_text())
    names = tuple(f"{name}==" for name in PURE + built)
    (tmp_path / "lock.txt").write_text("\n".join(package for package in packages if not package.startswith(names)))
    command = [ROOT / ".venv/tools/bin/uv", "pip", "install", "--dry-run", "--target", tmp_path / "none"]
    command += ["--no-build", "--no-deps", "--require-hashes", "--python-version", python]
    command += ["--python-platform", wheels_for, "-r", tmp_path / "lock.txt"]
    done = subprocess.run(command, env=os.environ | environments._uv_settings(), capture_output=True, text=True)
    if re.search("Failed to fetch|error sending request", done.stderr):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr


def test_pips_own_settings_decide_where_packages_come_from(tmp_path, monkeypatch):
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nindex-url = https://mirror.example/simple\ncert = /etc/own.pem\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    for name in ("PIP_CERT", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environments.sys, "executable", "/usr/bin/false")  # Debian's own Python has no pip
    found = environments._uv_settings()
    assert found["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert found["SSL_CERT_FILE"] == "/etc/own.pem"


def test_a_package_that_cannot_be_had_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    uv = ROOT / ".venv/tools/bin/uv"
    with pytest.raises(SetupError, match="check the network and pip's index-url"):
        environments._run([str(uv), "--no-cache", "pip", "install", "--target", str(tmp_path), "no-such-package-here"])


def test_the_locks_are_of_the_pyproject_there_is():
    """A version that pyproject.toml pins is the one that is locked."""
    project = (ROOT / "pyproject.toml").read_text()
    for name, lock in (("apache-airflow", "requirements.txt"), ("tfx", "requirements-ml.txt")):
        pinned = project.split(f'"{name}==')[1].split('"')[0]
        assert f"\n{name}=={pinned} \\\n    --hash=sha256:" in (ROOT / lock).read_text()


def test_the_settings_of_a_campaign_reach_its_tests_and_those_of_a_person_do_not():
    """See NIGHTLY_TEST_BEAM_ROWS in tests/nightly/engines/test_beam_engines.py."""
    script = (
        "import os, tests.conftest; print(os.environ.get('NIGHTLY_TEST_BEAM_ROWS'), os.environ.get('NIGHTLY_STATE'))"
    )
    environment = os.environ | {"NIGHTLY_TEST_BEAM_ROWS": "5", "NIGHTLY_STATE": "s3://bucket"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["5", "None"], done.stderr
