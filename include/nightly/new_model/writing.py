"""Write a new model's files: its folder in include/models and its DAG file, all or none."""

import keyword
import os
import re
from collections.abc import Mapping
from pathlib import Path

from nightly.io.atomic import sync_path, write_atomically
from nightly.io.paths import MODELS, ROOT
from nightly.models import load_config
from nightly.new_model.errors import NewModelError

DAGS = ROOT / "dags"
LONGEST = 100  # characters of a name, which is part of names of files
DAG = '''\
"""The nightly retrain of the {name} model, as an Airflow DAG."""

from nightly_airflow.retrain import retrain_dag

dag = retrain_dag("{name}")
'''


def dag_file(name: str, dags: Path = DAGS) -> Path:
    return dags / f"{name}_retrain.py"


def refuse_name(name: str, models: Path = MODELS, dags: Path = DAGS) -> None:
    """Raise NewModelError if a model cannot have this name, or has it already."""
    if len(name) > LONGEST:
        raise NewModelError(f"{name[:20]}… is no model's name: it has {len(name)} characters, and may have {LONGEST}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        likely = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789") or "trips"
        likely += "_model" if keyword.iskeyword(likely) else ""
        raise NewModelError(
            f"{name!r} is not a valid model name: use lower-case letters, digits and _, and begin "
            f"with a letter, as in {likely!r}"
        )
    for path in (models / name, dag_file(name, dags)):
        if os.path.lexists(path):
            raise NewModelError(f"{path} exists and may have been edited: choose another name, or remove it")


def stage(name: str, files: Mapping[str, str], folder: Path) -> Path:
    """Write the model's folder into `folder` and check that its config loads; return the model's folder.

    Raises NewModelError, which names what is wrong.
    """
    staged = folder / name
    staged.mkdir(exist_ok=True)
    for file, text in files.items():
        (staged / file).write_text(text)
    load_config(name, models=folder)
    return staged


def publish(name: str, staged: Path, models: Path = MODELS, dags: Path = DAGS) -> list[Path]:
    """Move the staged folder into `models` and write the DAG file; return both paths.

    If the DAG cannot be written, the folder is removed again. Raises NewModelError and OSError.
    """
    refuse_name(name, models, dags)
    for file in staged.iterdir():
        sync_path(file)
    folder, dag = models / name, dag_file(name, dags)
    staged.rename(folder)
    try:
        sync_path(models)
        write_atomically(dag, DAG.format(name=name).encode())
    except BaseException:
        folder.rename(staged)
        raise
    return [folder, dag]
