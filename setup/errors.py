"""What the set-up says when it cannot go on."""


class SetupError(Exception):
    """The machine lacks something the set-up cannot bring; the message says what, and what to do."""
