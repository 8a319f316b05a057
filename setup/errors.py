"""The error that stops the set-up."""


class SetupError(Exception):
    """The machine lacks something the set-up cannot bring; the message says what, and what to do."""
