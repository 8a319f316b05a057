"""Public tables that come inside packages: what bin/new is measured on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nightly.io.paths import Paths
from nightly.records.label_config import Kind

INSIDE_TFX = "tfx/examples/chicago_taxi_pipeline/data/big_tipper_label/data.csv"
AFTER_THE_TRIP = ["tips", "trip_miles", "trip_seconds", "payment_type", "big_tipper"]
TOO_FINE = ["pickup_census_tract", "dropoff_census_tract"]


@dataclass(frozen=True)
class PublicTable:
    """A table, and what a person who knows it tells `bin/new`."""

    name: str
    kind: Kind
    label: str
    read: Callable[[], pd.DataFrame]
    package: str
    tuned: bool = False  # the network's defaults were chosen on it; the others are a fair test
    log: bool = False  # the label is trained on as log1p
    time: str = ""  # the time column
    categories: tuple[str, ...] = ()  # codes that are written as numbers

    @property
    def model(self) -> str:
        """The name of its model; `taxi` and `fares` are the project's own."""
        return f"new_{self.name}"


def taxi() -> pd.DataFrame:
    return trips().drop(columns=["tips", *TOO_FINE])


def fares() -> pd.DataFrame:
    return trips().drop(columns=[*AFTER_THE_TRIP, *TOO_FINE])


def trips() -> pd.DataFrame:
    (path,) = Paths.from_environment().ml_python.parent.parent.glob(f"lib/python3.*/site-packages/{INSIDE_TFX}")
    return pd.read_csv(path, dtype={"company": str})


def from_scikit_learn(name: str) -> Callable[[], pd.DataFrame]:
    def read() -> pd.DataFrame:
        from sklearn import datasets

        frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
        return frame.rename(columns=lambda column: column.replace(" ", "_"))

    return read


def from_statsmodels(name: str) -> Callable[[], pd.DataFrame]:
    def read() -> pd.DataFrame:
        from importlib import import_module

        return import_module(f"statsmodels.datasets.{name}").load_pandas().data

    return read


def fair_yes() -> pd.DataFrame:
    frame = from_statsmodels("fair")()
    frame["affair"] = np.where(frame.pop("affairs") > 0, "yes", "no")
    return frame


def parties() -> pd.DataFrame:
    """The vote of 1996; the label is the party identification, of seven steps, as text."""
    frame = from_statsmodels("anes96")()
    frame["PID"] = frame["PID"].astype(int).map(lambda step: f"step {step}")
    return frame.drop(columns=["vote", "logpopul"])


def chosen_modes() -> pd.DataFrame:
    """One row a traveller: the terms of each mode, and which was taken."""
    frame = from_statsmodels("modechoice")()
    names = {1: "air", 2: "train", 3: "bus", 4: "car"}
    wide = frame.pivot(index="individual", columns="mode", values=["ttme", "invc", "invt", "gc"])
    wide.columns = [f"{term}_{names[int(mode)]}" for term, mode in wide.columns]
    travellers = frame.groupby("individual")[["hinc", "psize"]].first()
    taken = frame[frame["choice"] == 1].set_index("individual")["mode"].astype(int).map(names).rename("taken")
    return wide.join(travellers).join(taken).drop(columns="ttme_car").reset_index(drop=True)


def from_vega(name: str) -> Callable[[], pd.DataFrame]:
    def read() -> pd.DataFrame:
        from vega_datasets import local_data

        frame = getattr(local_data, name)()
        frame = frame.dropna(subset=["Miles_per_Gallon"]) if name == "cars" else frame
        return frame.drop(columns=[column for column in ("Name",) if column in frame])

    return read


TABLES = {
    table.name: table
    for table in (
        PublicTable(
            "taxi", "binary", "big_tipper", taxi, "tfx", tuned=True, time="trip_start_timestamp",
            categories=("pickup_community_area", "dropoff_community_area"),
        ),
        PublicTable("affairs", "binary", "affair", fair_yes, "statsmodels", tuned=True),
        PublicTable("wine", "classes", "target", from_scikit_learn("wine"), "scikit-learn", tuned=True),
        PublicTable("parties", "classes", "PID", parties, "statsmodels", tuned=True),
        PublicTable("diabetes", "number", "target", from_scikit_learn("diabetes"), "scikit-learn", tuned=True),
        PublicTable(
            "fares", "number", "fare", fares, "tfx", tuned=True, log=True, time="trip_start_timestamp",
            categories=("pickup_community_area", "dropoff_community_area"),
        ),
        PublicTable("breast_cancer", "binary", "target", from_scikit_learn("breast_cancer"), "scikit-learn"),
        PublicTable("digits", "classes", "target", from_scikit_learn("digits"), "scikit-learn"),
        PublicTable("doctor_visits", "number", "mdvis", from_statsmodels("randhie"), "statsmodels", log=True),
        PublicTable("travel_modes", "classes", "taken", chosen_modes, "statsmodels"),
        PublicTable("cars", "number", "Miles_per_Gallon", from_vega("cars"), "vega_datasets", time="Year"),
        PublicTable("weather", "classes", "weather", from_vega("seattle_weather"), "vega_datasets", time="date"),
    )
}  # fmt: skip


def write(table: PublicTable, folder: Path) -> Path:
    """Write the table as CSV, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{table.name}.csv"
    table.read().to_csv(path, index=False)
    return path
