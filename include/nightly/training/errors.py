"""Errors of training."""


class TrainingError(RuntimeError):
    """Training failed; the message names the step and what to change."""
