"""Models whose label is a class, with real data, and nights of them and of `fares` in a copy of the project.

fares     number           include/models/fares, taxi trips
digits    classes          images of handwritten digits, from scikit-learn
products  learned classes  consumer complaints
"""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn import datasets

from nightly.io.paths import ROOT, Paths, python_path
from nightly.records.night import Night
from tests.support.data import COMPLAINTS, TAXI

HERE = Path(__file__).parent
Rows = pd.DataFrame
RUN_NIGHTS = """
import json, sys
from nightly.cli.night import main
for words in json.loads(sys.argv[1]):
    print("status", main(words), flush=True)
"""


@dataclass(frozen=True)
class ExampleModel:
    """A model and its source."""

    name: str
    label: str  # the column's name in the source
    first: str  # as-of dates of two nights
    second: str
    rows: Callable[[], Rows]  # of the source, oldest first
    moments: Callable[[Rows], pd.Series]
    suffix: str = ".csv"

    def write(self, rows: Rows, folder: Path) -> Path:
        """Write the rows as the model's source; return its file."""
        path = folder / f"{self.name}{self.suffix}"
        folder.mkdir(parents=True, exist_ok=True)
        if self.suffix == ".parquet":
            rows.to_parquet(path, index=False)
        else:
            rows.to_csv(path, index=False)
        return path

    def newest_blank(self, rows: Rows, days: int) -> Rows:
        """Blank the labels of the last days before the second night."""
        late = self.moments(rows) >= pd.Timestamp(self.second) - pd.Timedelta(days=days)
        return rows.assign(**{self.label: rows[self.label].mask(late)})

    def shifted(self, rows: Rows) -> Rows:
        """Give each row the label of the row before it."""
        return rows.assign(**{self.label: rows[self.label].shift(1)}).iloc[1:]


def trips() -> Rows:
    rows = pd.read_csv(TAXI, dtype=str, keep_default_na=False)
    return rows.sort_values("trip_start_timestamp", kind="stable", ignore_index=True)


def complaints() -> Rows:
    rows = pd.read_csv(COMPLAINTS, dtype=str, keep_default_na=False)
    return rows.iloc[_received(rows).argsort(kind="stable")].reset_index(drop=True)


def digits() -> Rows:
    """1,797 images of 8 by 8 pixels as PNG, 30 a day from 2016-01-01 on."""
    loaded = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(loaded.target))  # they come in the order 0, 1, … 9, 0, 1, …
    days = pd.Timestamp("2016-01-01") + pd.to_timedelta(np.arange(len(order)) // 30, "D")
    return pd.DataFrame(
        {
            "id": np.arange(len(order)),
            "day": days.strftime("%Y-%m-%d"),
            "image": [_png(image) for image in loaded.images[order]],
            "digit": pd.array(loaded.target[order], dtype="Int64"),
        }
    )


def _png(image: np.ndarray) -> bytes:
    """Encode an image of numbers from 0 to 16."""
    buffer = io.BytesIO()
    Image.fromarray((image * 255 / 16).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _received(rows: Rows) -> pd.Series:
    return pd.to_datetime(rows["Date received"], format="%m/%d/%Y")


FARES = ExampleModel(
    *("fares", "fare", "2015-05-01", "2015-06-01", trips),
    lambda rows: pd.to_datetime(rows.trip_start_timestamp.astype(int), unit="s"),
)
DIGITS = ExampleModel(
    *("digits", "digit", "2016-02-20", "2016-03-01", digits),
    lambda rows: pd.to_datetime(rows.day),
    ".parquet",
)
PRODUCTS = ExampleModel(*("products", "Product", "2016-03-05", "2016-03-14", complaints), _received)


@dataclass(frozen=True)
class Project:
    """A copy of the project that has the example models as well."""

    root: Path

    @classmethod
    def copied(cls, to: Path) -> "Project":
        ignore = shutil.ignore_patterns("__pycache__")
        for folder in ("include", "client", "server"):
            shutil.copytree(ROOT / folder, to / folder, ignore=ignore)
        for model in (DIGITS, PRODUCTS):
            shutil.copytree(HERE / model.name, to / "include/models" / model.name, ignore=ignore)
        return cls(to)

    def nights(self, *commands: list[str]) -> list[tuple[int, Path]]:
        """Run nights, one after the other, with the arguments of bin/night; return the exit status and folder of each.

        They run in one process, because TensorFlow takes seconds to import.
        """
        paths = Paths.from_environment()
        done = subprocess.run(
            [sys.executable, "-P", "-c", RUN_NIGHTS, json.dumps(commands)],
            cwd=self.root,
            env=os.environ | {"NIGHTLY_ML_PYTHON": sys.executable, "PYTHONPATH": python_path(self.root)},
            capture_output=True,
            text=True,
        )
        statuses = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("status ")]
        assert len(statuses) == len(commands), done.stdout + done.stderr
        models = {words[0] for words in commands}
        folders = [request.parent for model in models for request in (paths.nights / model).glob("*/request.json")]
        folders.sort(key=lambda folder: Night.load(folder / "request.json").planned_at)
        return list(zip(statuses, folders[-len(statuses) :], strict=True))
