"""Scored examples of each kind of label: drawn at random, and of real taxi trips."""

import numpy as np
import pandas as pd
import pyarrow as pa

from nightly.evaluation.scored import Scored
from tests.support.data import TAXI

MODELS = ["candidate", "production"]
CLASSES = ["Cash", "Credit Card", "No Charge", "(other)"]


def drawn(kind: str, rows: int, seed: int, *, weighted: bool = True) -> Scored:
    """Examples whose candidate is a little better than production."""
    random = np.random.default_rng(seed)
    noise = {"candidate": 0.3, "production": 0.7}
    if kind == "binary":
        odds = 1.5 * random.normal(size=rows) - 1
        labels = (random.random(rows) < _sigmoid(odds)).astype(np.float32)
        scores = {model: _sigmoid(odds + size * random.normal(size=rows)) for model, size in noise.items()}
    elif kind == "classes":
        odds = random.normal(size=(rows, len(CLASSES))) * 1.5 + np.array([1.5, 1, 0, -0.5])
        labels = (np.cumsum(_softmax(odds), axis=1) < random.random((rows, 1))).sum(axis=1)
        scores = {model: _softmax(odds + size * random.normal(size=odds.shape)) for model, size in noise.items()}
    else:
        labels = random.gamma(4, 3, rows)
        scores = {model: np.abs(labels + 3 * size * random.normal(size=rows)) for model, size in noise.items()}
    shop = random.choice(["north", "Süd", "(missing)", "rare"], rows, p=[0.6, 0.3, 0.09, 0.01])
    return Scored(
        labels=labels,
        scores={model: values.astype(np.float32) for model, values in scores.items()},
        columns={"shop": pa.array(shop)},
        weights=random.gamma(2, 0.5, rows) if weighted else None,
    )


def of_trips(kind: str, rows: int, *, weighted: bool) -> Scored:
    """Real trips, answered by their groups' means: the candidate's groups are finer. Weights are the trips' seconds."""
    trips = pd.read_csv(TAXI).dropna(subset=["fare", "trip_miles", "trip_seconds", "payment_type"]).head(rows)
    groups = {
        "candidate": trips.trip_miles.round().clip(upper=20),
        "production": trips.trip_start_hour,
    }
    if kind == "binary":
        labels = trips.big_tipper.to_numpy(np.float32)
        scores = {model: trips.big_tipper.groupby(group).transform("mean") for model, group in groups.items()}
        scores = {model: np.clip(values, 1e-4, 1 - 1e-4) for model, values in scores.items()}
    elif kind == "classes":
        names = trips.payment_type.where(trips.payment_type.isin(CLASSES), "(other)")
        labels = names.map(CLASSES.index).to_numpy()
        scores = {
            model: np.stack([(names == name).groupby(group).transform("mean") for name in CLASSES], axis=1)
            for model, group in groups.items()
        }
        scores = {
            model: (values + 0.01) / (values + 0.01).sum(axis=1, keepdims=True) for model, values in scores.items()
        }
    else:
        labels = trips.fare.to_numpy()
        scores = {model: trips.fare.groupby(group).transform("mean") for model, group in groups.items()}
    return Scored(
        labels=labels,
        scores={model: np.asarray(values, np.float32) for model, values in scores.items()},
        columns={"shop": pa.array(trips.payment_type)},
        weights=trips.trip_seconds.to_numpy(np.float64) / 100 if weighted else None,
    )


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-odds))


def _softmax(odds: np.ndarray) -> np.ndarray:
    powers = np.exp(odds)
    return powers / powers.sum(axis=1, keepdims=True)
