"""A default model for tables: preprocessing, a network and training settings that suit most of them.

`bin/new` writes models that use it; docs/how-to/new-model-results.md compares it with gradient boosting.
"""

from nightly.training.tabular.features import Features

__all__ = ["Features"]
