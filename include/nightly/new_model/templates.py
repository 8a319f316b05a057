"""The three Python files of a new model's folder, as text."""

from collections.abc import Mapping
from dataclasses import fields

from nightly.training.tabular.features import Features

PREPROCESSING = '''\
"""Convert raw rows to the network's inputs, in training and, inside the SavedModel, in serving.

Add features of your own to the outputs: a dense tensor each, [batch, width], which build_model then gets as an input.
"""

from nightly.training.tabular import preprocessing

from .features import FEATURES


def preprocessing_fn(inputs):
    """Encode the columns of FEATURES: see nightly/training/tabular/preprocessing.py."""
    return preprocessing.encode(inputs, FEATURES)
'''

MODEL = '''\
"""The network: nightly's default for tables. Replace build_model to use another."""

import keras

from nightly.training.tabular import network

from .features import FEATURES


def build_model(tf_transform_output, hyperparameters, label) -> keras.Model:
    """Return a compiled model of preprocessing_fn's outputs; docs/how-to/labels.md says what it has to answer."""
    return network.build(FEATURES, tf_transform_output, hyperparameters, label)
'''

HEADER = '''\
"""The columns that the model reads, grouped by their encoding. Shared by the transform and the network."""

from nightly.training.tabular import Features

'''


def features_file(features: Features, comments: Mapping[str, str] | None = None) -> str:
    """Return features.py, with a column a line.

    :param comments: column -> what a reader should know of it, in one line
    """
    lines = ["FEATURES = Features("]
    for group in fields(features):
        if names := getattr(features, group.name):
            lines.append(f"    {group.name}=[")
            for name in names:
                comment = " ".join((comments or {}).get(name, "").split())
                lines.append(f"        {_quoted(name)}," + (f"  # {comment}" if comment else ""))
            lines.append("    ],")
    return HEADER + "\n".join([*lines, ")"]) + "\n"


def _quoted(name: str) -> str:
    """Return the name as a string literal in double quotes, as ruff formats it."""
    literal = repr(name)
    return f'"{name}"' if literal == f"'{name}'" else literal
