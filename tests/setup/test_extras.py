"""The extras of the Airflow side install beside Airflow's own constraints, and are all that it imports.

Airflow publishes its constraints on GitHub only. These tests make the like of them: the newest versions of Airflow and
of the providers in the images of Astro, Composer and MWAA that resolve together.
"""

import os
import subprocess
import sys

import pytest

from nightly.io.paths import ROOT
from setup import environments

pytestmark = pytest.mark.slow

AIRFLOW = "apache-airflow==3.3.2"
PROVIDERS = [
    "amazon",
    "celery",
    "cncf-kubernetes",
    "common-compat",
    "common-io",
    "common-sql",
    "elasticsearch",
    "fab",
    "ftp",
    "google",
    "http",
    "microsoft-azure",
    "mysql",
    "openlineage",
    "postgres",
    "redis",
    "slack",
    "smtp",
    "sqlite",
    "ssh",
    "standard",
]
EXTRAS = ("airflow", "bucket", "kubernetes")
UV = ROOT / ".venv/tools/bin/uv"

# Refuses what only the ML environment or a bucket needs, then imports every module of the Airflow side.
IMPORTS = """
import importlib, sys
from pathlib import Path

REFUSED = {"tensorflow", "tfx", "pyarrow", "obstore", "psycopg2"}

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in REFUSED or name == "google.cloud.storage":
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Refused())
plugins = Path("plugins").resolve()
for path in plugins.rglob("*.py"):
    importlib.import_module(".".join(path.relative_to(plugins).with_suffix("").parts).removesuffix(".__init__"))

from nightly.state import current
with current().session("taxi") as paths:
    current().publish(paths.nights)
"""


def compiled(*arguments: str, stdin: str = "") -> dict[str, str]:
    """Return name -> version, as uv resolves it."""
    if not UV.exists():
        pytest.skip("uv is not set up")
    command = [str(UV), "pip", "compile", "--quiet", "--no-annotate", "--no-header", "--python-version", "3.12"]
    settings = os.environ | environments._uv_settings()
    done = subprocess.run([*command, *arguments], input=stdin, env=settings, cwd=ROOT, capture_output=True, text=True)
    if done.returncode and "No solution found" not in done.stderr:
        pytest.skip(f"the package index does not answer: {done.stderr[-500:]}")
    assert done.returncode == 0, done.stderr
    return dict(line.split("==") for line in done.stdout.split() if "==" in line)


@pytest.mark.slow
def test_the_extras_resolve_beside_airflow_and_the_providers_of_managed_images_and_move_no_version(tmp_path):
    image = "\n".join([AIRFLOW, *(f"apache-airflow-providers-{name}" for name in PROVIDERS)])
    constraints = compiled("-", stdin=image)
    (tmp_path / "constraints.txt").write_text("\n".join(f"{name}=={version}" for name, version in constraints.items()))

    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    ours = compiled("pyproject.toml", *extras, "--constraint", str(tmp_path / "constraints.txt"))
    assert ours["apache-airflow"] == AIRFLOW.partition("==")[2]
    assert {name for name, version in ours.items() if constraints.get(name, version) != version} == set()
    assert ours.keys() - constraints.keys() <= {"obstore"}, "what an image lacks"

    # Without constraints, too, the extras hold nothing of the image back.
    (tmp_path / "image.in").write_text(image)
    beside = compiled("pyproject.toml", str(tmp_path / "image.in"), *extras)
    assert {name: beside.get(name) for name in constraints} == constraints


def test_the_airflow_side_works_on_a_folder_without_the_packages_of_ml_and_of_buckets(tmp_path):
    path = os.pathsep.join(str(ROOT / folder) for folder in ("plugins", "include", "."))
    environment = os.environ | {"PYTHONPATH": path, "NIGHTLY_VAR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", IMPORTS], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
