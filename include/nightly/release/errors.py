"""The errors of a release."""

from nightly.io import space
from nightly.io.errors import DamageError, UserError


class ReleaseError(UserError, RuntimeError):
    """A release failed or does not exist. The message says what, where, and what to do."""


class WithdrawnError(ReleaseError):
    """This run's model was released and then withdrawn. A retry does not release it again."""

    retry = False


class DamagedError(ReleaseError, DamageError):
    """A version's files differ from its record."""


class SpaceError(ReleaseError, space.SpaceError):
    """The serving volume has no room for another version."""


class CanaryRunning(ReleaseError):
    """A canary is being compared with production. Nothing else is released until the comparison ends."""


class ReleaseNotVerified(ReleaseError):
    """The model server refused a version, or its answers were wrong."""

    retry = False


class ServerRefused(ReleaseError):
    """The model server refused a call, mostly a new configuration. Any model in it may be the cause."""


class NotLoadedInTime(ReleaseError):
    """The model server did not load a version in time, and reported no error."""


class ServerNotReached(ReleaseError):
    """The model server is configured and does not answer."""


class NotVerifiedYet(ServerNotReached):
    """A version could not be verified, through no fault of its own. It is out of sight until a retry verifies it."""


class NotConfirmed(ServerNotReached):
    """A change is on disk, in the records and in models.config, but the model server has not confirmed it."""


class ProductionChanged(ReleaseError):
    """The version in production is not the one that this night's model was compared with."""


class NotPublished(ReleaseError):
    """A release is in the serving volume, but could not be copied or registered elsewhere."""


class CollisionError(NotPublished):
    """Another machine released to the same bucket meanwhile, or released other files under the same version."""
