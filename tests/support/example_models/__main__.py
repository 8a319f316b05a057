"""Add the example models to a copy of the project, each with its data and its DAG: run by the ML side's Python.

    python -m tests.support.example_models FOLDER

The digits are judged by the newest days, and trained again on all rows.
"""

import shutil
import sys
from pathlib import Path

from tests.support.example_models import DIGITS, HERE, PRODUCTS

DAG = """from nightly_airflow.retrain import retrain_dag

dag = retrain_dag("{}")
"""


def main(project: Path) -> None:
    for model in (DIGITS, PRODUCTS):
        folder = project / "include/models" / model.name
        shutil.copytree(HERE / model.name, folder)
        data = model.write(model.rows(), project / "data")
        config = (folder / "config.toml").read_text()
        for old in (data.name, "complaints.csv"):
            config = config.replace(f'path = "{old}"', f'path = "{data}"')
        if model is DIGITS:
            config = config.replace("[data]\n", '[data]\neval = "newest"\n')
            config = config.replace("[training]\n", "[training]\nrefit = true\n")
        (folder / "config.toml").write_text(config)
        (project / f"dags/{model.name}_retrain.py").write_text(DAG.format(model.name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
