"""Training settings by rule, from the rows of the training split. Imports no TensorFlow."""

from typing import NamedTuple

from nightly.records.label_config import Kind
from nightly.training.tabular.features import Features


class Recommended(NamedTuple):
    """The section [training] of a config, and a comment for each of its keys."""

    steps: int
    batch_size: int
    hyperparameters: dict[str, int | float]
    comments: dict[str, str]  # by key: steps, batch_size and each hyperparameter


def recommended(rows: int, label_kind: Kind, features: Features) -> Recommended:
    """Return the settings for a training split of `rows` rows."""
    raise NotImplementedError
