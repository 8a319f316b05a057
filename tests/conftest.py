"""Both environments' tests: all state goes to a temporary folder, named before Airflow is first imported."""

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(tempfile.mkdtemp(prefix="nightly-tests-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

KEPT = ("NIGHTLY_ML_PYTHON", "NIGHTLY_VENVS")  # where the environments are
for name in [name for name in os.environ if name.startswith(("AIRFLOW", "NIGHTLY_")) and name not in KEPT]:
    del os.environ[name]
os.environ |= {
    "NIGHTLY_VAR": str(HOME / "var"),
    "AIRFLOW_HOME": str(HOME / "airflow"),
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in (".", "include", "client", "server")),
}


@pytest.fixture
def full_disk(tmp_path) -> Iterator[Path]:
    """A small disk without a free byte, in which empty files and folders can still be made."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk to fill it")
    place = tmp_path / "full"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]).returncode:
        pytest.skip("nothing can be mounted here, as in a container without privileges")
    try:
        with pytest.raises(OSError, match="No space left"), open(place / "filler", "ab", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
