"""The set-up: what it refuses, what it skips, and where it takes things from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import environments
from errors import SetupError

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_second_run_costs_a_file_comparison():
    done = subprocess.run(
        [sys.executable, ROOT / "setup", "airflow", "ml", "dev", "lint"], capture_output=True, text=True, timeout=10
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "nothing is set up again"


def test_an_unknown_word_is_answered_with_the_usage():
    done = subprocess.run([sys.executable, ROOT / "setup", "mll"], capture_output=True, text=True)
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


def test_pips_own_settings_decide_where_packages_come_from(tmp_path, monkeypatch):
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nindex-url = https://mirror.example/simple\ncert = /etc/own.pem\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    for name in ("PIP_CERT", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environments.sys, "executable", _a_python_with_pip())
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


def _a_python_with_pip():
    return str(ROOT / ".venv/tools/bin/python") if os.access(ROOT / ".venv/tools/bin/pip", os.X_OK) else sys.executable
