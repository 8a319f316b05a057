"""Training settings by rule, from the rows of the training split. Imports no TensorFlow.

The rule is measured: docs/how-to/new-model-results.md.
"""

from typing import NamedTuple

from nightly.records.label_config import Kind
from nightly.training.tabular.features import Features

SMALL = 2_500  # rows
PASSES, PASSES_OF_CLASSES = 30, 20  # over the rows; a log loss rises again where a squared error still falls
MIN_STEPS, MAX_STEPS = 150, 3_000
BATCHES = ((SMALL, 64), (200_000, 256))  # up to so many rows
LARGE_BATCH = 1_024
WIDE = 200  # columns, from which on the parts of a number are fewer


class Recommended(NamedTuple):
    """The section [training] of a config, and a comment for each of its keys."""

    steps: int
    batch_size: int
    hyperparameters: dict[str, int | float]
    comments: dict[str, str]  # by key: steps, batch_size and each hyperparameter


def recommended(rows: int, label_kind: Kind, features: Features) -> Recommended:
    """Return the settings for a training split of `rows` rows."""
    size = next((size for limit, size in BATCHES if rows <= limit), LARGE_BATCH)
    passes = PASSES if rows <= SMALL or label_kind == "number" else PASSES_OF_CLASSES
    steps = min(max(10 * round(rows * passes / size / 10), MIN_STEPS), MAX_STEPS)
    hyperparameters = {
        "learning_rate": 0.002,
        "weight_decay": 0.01,
        "dropout": 0.3 if rows <= SMALL else 0.05 if label_kind == "number" else 0.2,
        "members": 4,
        "width": 64,
        "layers": 2,
        "embedding": 8,
        "bins": 8 if len(features.names) >= WIDE else 16,
    }
    comments = {
        "steps": f"{steps * size / max(rows, 1):.3g} passes over {rows:,} rows; more overfit a small table",
        "batch_size": "rows in a step",
        "learning_rate": "the highest: it rises over the first twentieth of the steps, and falls to 0 until the last",
        "weight_decay": "AdamW's",
        "dropout": "the share of hidden units left out in a step; more for a small table",
        "members": "networks in one, whose mean is the answer; more are slower, and differ less by chance",
        "width": "hidden units of each member",
        "layers": "hidden layers",
        "embedding": "dimensions of a category or a word",
        "bins": "parts of the piecewise-linear function of each number",
    }
    return Recommended(steps, size, hyperparameters, comments)
