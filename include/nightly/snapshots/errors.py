"""What can go wrong between a body and a snapshot, one class a kind."""

from nightly.io.errors import DamageError, UserError


class SnapshotError(UserError):
    """No snapshot could be made or found; the message says what, where, and what to do."""


class UnreadableBodyError(SnapshotError):
    """A body that is gone, has changed, is damaged, or is not what its name says."""


class TruncatedBodyError(SnapshotError):
    """A body that ends in the middle of a row, and before it none of the window."""


class ColumnError(SnapshotError):
    """A column that is missing, or two that would have one name."""


class TooManyRejectedError(SnapshotError):
    """More bad rows than the model's config allows.

    :param retyped: columns that are not bad but of another type than was expected, with that type
    """

    def __init__(self, message: str, retyped: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.retyped = retyped or {}


class SnapshotNotFoundError(SnapshotError):
    """No snapshot of that id, or several."""


class DamagedSnapshotError(SnapshotError, DamageError):
    """A snapshot whose files are not those of its manifest."""
