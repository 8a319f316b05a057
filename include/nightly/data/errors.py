"""What can be wrong with a data set or with what is asked of it."""


class DataError(Exception):
    """It cannot be done; the message says what, where, and what to do."""
