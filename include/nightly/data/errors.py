"""What can be wrong with a data set or with what is asked of it."""

from nightly.io.errors import UserError


class DataError(UserError):
    """It cannot be done; the message says what, where, and what to do."""
