"""What can go wrong with a release, one class a kind."""

from nightly.io import space
from nightly.io.errors import DamageError, UserError


class ReleaseError(UserError, RuntimeError):
    """A release cannot be made or found; the message says what, where, and what to do."""


class WithdrawnError(ReleaseError):
    """The model of this run was released and taken back: a retry does not bring it back."""


class DamagedError(ReleaseError, DamageError):
    """The files of a version are not those of its record."""


class SpaceError(ReleaseError, space.SpaceError):
    """The serving volume has no room for another version."""


class CanaryRunning(ReleaseError):
    """A canary is being compared with the version in production: until that ends, nothing else is released."""


class ReleaseNotVerified(ReleaseError):
    """The model server refused a version, or answered for it as it should not."""


class NotLoadedInTime(ReleaseError):
    """The model server has not loaded a version in time, and has not said that it cannot."""


class ServerNotReached(ReleaseError):
    """The model server is configured and does not answer."""


class NotVerifiedYet(ServerNotReached):
    """A version could not be verified, which says nothing against it: it is out of sight until a retry verifies it."""


class NotConfirmed(ServerNotReached):
    """A change stands on disk, in the records and in models.config, and the model server has not confirmed it."""


class ProductionChanged(ReleaseError):
    """Another version is in production than the one that this night's model was judged against."""


class NotPublished(ReleaseError):
    """A release stands in the serving volume and could not be copied or registered elsewhere."""


class CollisionError(NotPublished):
    """Somebody else released to the same place in the meantime, or something else under the same version."""
