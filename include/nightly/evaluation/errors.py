"""Errors of judging a model."""

from nightly.io.errors import UserError


class EvaluationError(UserError, ValueError):
    """A model cannot be judged by its examples and metrics; the message names what to change."""
