"""Which columns a model of a table reads, by the way each is encoded. Imports no TensorFlow: `bin/new` writes it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

from nightly.training.errors import ModelError


@dataclass(frozen=True)
class Features:
    """Column names by encoding. Each column stands in one group; columns in none are not read.

    Raises ModelError if a column is in two groups, or if there is none.
    """

    numbers: Sequence[str] = ()  # INT or FLOAT: an order that means something
    categories: Sequence[str] = ()  # text, or INT codes whose order means nothing
    category_lists: Sequence[str] = ()  # lists of them, such as tags
    vectors: Sequence[str] = ()  # FLOAT with a shape, such as embeddings
    texts: Sequence[str] = ()  # free text, read as words

    def __post_init__(self) -> None:
        for group in fields(self):
            object.__setattr__(self, group.name, tuple(getattr(self, group.name)))
        if repeated := [name for name, times in Counter(self.names).items() if times > 1]:
            raise ModelError(f"the column {repeated[0]!r} is named twice: leave it in one group of Features")
        if not self.names:
            raise ModelError("Features names no column: a model needs at least one")

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, in the order of the groups."""
        return tuple(name for group in fields(self) for name in getattr(self, group.name))
