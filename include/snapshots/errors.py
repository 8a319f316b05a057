"""What can go wrong between a body and a snapshot, one class a kind."""


class SnapshotError(Exception):
    """No snapshot could be made or found; the message says what, where, and what to do."""


class UnreadableBodyError(SnapshotError):
    """A body that is gone, has changed, is damaged, or is not what its name says."""


class ColumnError(SnapshotError):
    """A column that is missing, or two that would have one name."""


class TooManyRejectedError(SnapshotError):
    """More bad rows than the model's config allows."""


class SnapshotNotFoundError(SnapshotError):
    """No snapshot of that id, or several."""


class DamagedSnapshotError(SnapshotError):
    """A snapshot whose files are not those of its manifest."""
