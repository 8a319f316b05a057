"""Errors of making and reading snapshots."""

from nightly.io.errors import DamageError, UserError


class SnapshotError(UserError):
    """A snapshot cannot be made or found. The message names the cause, the place and the next action."""


class UnreadableBodyError(SnapshotError):
    """A body is missing, changed, damaged, or of another kind than its name."""


class TruncatedBodyError(SnapshotError):
    """A body ends in the middle of a row, and no row before the cut lies in the window."""


class ColumnError(SnapshotError):
    """A column is missing, or two columns have the same name."""


class TooManyRejectedError(SnapshotError):
    """More rows were rejected than the model's config allows.

    :param retyped: column -> type, for columns whose values all have another type than the schema's
    """

    def __init__(self, message: str, retyped: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.retyped = retyped or {}


class SnapshotNotFoundError(SnapshotError):
    """No snapshot, or more than one, has this id or prefix."""


class DamagedSnapshotError(SnapshotError, DamageError):
    """A snapshot's files do not match its manifest."""
