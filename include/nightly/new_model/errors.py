"""The error of a request for a new model."""

from nightly.io.errors import UserError


class NewModelError(UserError):
    """No model can be written. The message names the problem, the place and what to do."""
