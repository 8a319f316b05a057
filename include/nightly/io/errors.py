"""The two kinds of error that a command reports in one line. Every error class of the package that a person can act
on is one of them."""


class UserError(Exception):
    """It cannot be done as it was asked for; the message says what, where, and what to do."""


class DamageError(UserError):
    """Files are not as their record has them: nobody has asked for the wrong thing, and something is to be repaired."""
