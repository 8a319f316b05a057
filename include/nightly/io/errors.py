"""The base classes of all errors that a person can act on. Commands report them in one line, without a traceback."""


class UserError(Exception):
    """A request cannot be fulfilled. The message names the problem, the place and the next action.

    :cvar retry: whether a later try may succeed without a person; Airflow does not retry a task otherwise
    :cvar infrastructure: whether it is no error of the step's own, so that Airflow retries more often
    """

    retry = True
    infrastructure = False


class DamageError(UserError):
    """Files do not match their record and need a repair, although the request was right."""
