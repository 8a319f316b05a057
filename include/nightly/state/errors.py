"""Errors of the state in a bucket. Each names the object, and what to do."""

from nightly.io.errors import DamageError, UserError


class StateError(UserError):
    """The state cannot be used."""


class StateAddressError(StateError):
    """NIGHTLY_STATE is neither a folder nor a bucket's address, or a path is outside the state's folders."""

    retry = False


class StateRefusedError(StateError):
    """The bucket does not exist, or refuses the credentials."""

    retry = False


class StateNotReachedError(StateError):
    """The bucket, or the database of the locks, does not answer."""

    infrastructure = True


class ChangedElsewhereError(StateError):
    """Another host has changed what this one was about to change."""

    infrastructure = True


class DamagedStateError(StateError, DamageError):
    """The bucket lacks a file that it should have, or has other bytes."""


class PreconditionFailedError(StateError):
    """The object exists already, or is not the version that was to be replaced."""


class MissingObjectError(PreconditionFailedError):
    """The object does not exist."""
