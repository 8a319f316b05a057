"""Errors of training."""

from nightly.io.errors import UserError


class TrainingError(UserError):
    """Training failed; the message names the step and what to change."""


class ModelError(UserError, ValueError):
    """The model's folder contradicts itself, its data or its config; the message names the place and the change."""
