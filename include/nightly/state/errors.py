"""Errors of the state."""

from nightly.io.errors import DamageError, UserError


class StateAddressError(UserError):
    """NIGHTLY_STATE, or another variable that the state needs, cannot be used."""

    retry = False


class StateNotReachedError(UserError):
    """The bucket, or the database with its locks, does not answer."""


class ChangedElsewhereError(UserError):
    """Another host has changed a record, or published other content, in the meantime."""


class DamagedStateError(DamageError):
    """The bucket lacks a file that a manifest names, or has other bytes."""
