"""What Airflow takes for a plugin or a DAG file, in this project and where the deployment pages copy it."""

import re
import shutil
from pathlib import Path

import pytest
from airflow._shared.module_loading import find_path_from_directory  # what Airflow's plugin and DAG loaders call

ROOT = Path(__file__).resolve().parents[2]
COMPOSER = (ROOT / "docs/how-to/deploy/composer.md").read_text()
MWAA = (ROOT / "docs/how-to/deploy/mwaa.md").read_text()


def modules(folder: Path, syntax: str) -> set[str]:
    found = find_path_from_directory(str(folder), ".airflowignore", syntax)
    return {str(Path(path).relative_to(folder)) for path in found if path.endswith(".py")}


@pytest.mark.parametrize("syntax", ["glob", "regexp"])
def test_one_module_is_a_plugin_also_where_the_packages_are_below_the_plugins_folder(tmp_path, syntax):
    """Airflow registers a plugin's module under its bare name: include/nightly/io/secrets.py as `secrets`."""
    assert "zip -r plugins.zip include client" in MWAA
    plugins = shutil.copytree(ROOT / "plugins", tmp_path / "plugins")
    for package in ("include", "client"):
        (plugins / package).symlink_to(ROOT / package)
    assert modules(ROOT / "plugins", syntax) == modules(plugins, syntax) == {"nightly_plugin.py"}


@pytest.mark.parametrize("syntax", ["glob", "regexp"])
def test_only_dag_files_are_parsed_where_the_packages_are_below_the_dags_folder(tmp_path, syntax):
    dags = shutil.copytree(ROOT / "dags", tmp_path / "dags")
    (dags / "include").symlink_to(ROOT / "include")
    (dags / "nightly_airflow").symlink_to(ROOT / "plugins/nightly_airflow")
    (patterns,) = re.findall(r"printf '%s\\n' (.+) \| gsutil cp - \"\$BUCKET/\.airflowignore\"", COMPOSER)
    (dags / ".airflowignore").write_text(patterns.replace(" ", "\n"))
    assert modules(dags, syntax) == {path.name for path in (ROOT / "dags").glob("*.py")}
