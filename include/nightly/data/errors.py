"""The error of tasks on data."""

from nightly.io.errors import UserError


class DataError(UserError):
    """A data set or a request is not valid. The message names the problem, the place and the next action."""
