"""Both environments' tests: all state goes to a temporary folder, named before Airflow is first imported."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(tempfile.mkdtemp(prefix="nightly-tests-"))
HOME.chmod(0o711)  # root's PostgreSQL server runs as another user, and its folder is below
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

# Beam and TFX leave temporary folders behind. They go with HOME; what tests write to tmp_path is kept, as pytest does.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
os.environ["TMPDIR"] = str(HOME / "tmp")
(HOME / "tmp").mkdir()
tempfile.tempdir = None  # read TMPDIR again

KEPT = ("NIGHTLY_ML_PYTHON", "NIGHTLY_VENVS", "NIGHTLY_TEST_BEAM_")  # where the environments are; of one campaign
for name in [name for name in os.environ if name.startswith(("AIRFLOW", "NIGHTLY_")) and not name.startswith(KEPT)]:
    del os.environ[name]
os.environ |= {
    "NIGHTLY_VAR": str(HOME / "var"),
    "AIRFLOW_HOME": str(HOME / "airflow"),
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in (".", "include", "client", "server", "plugins")),
}

pytest_plugins = ["tests.support.fixtures", "tests.support.bucket_hosts"]


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A campaign is slow, too: '-m "not slow"' leaves it out."""
    for item in items:
        if item.get_closest_marker("campaign"):
            item.add_marker("slow")
