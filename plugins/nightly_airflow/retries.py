"""How often a task is tried again: often where the machinery failed, seldom where the step itself did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowTaskTimeout

from nightly_airflow.hooks.ml import MLProcessDied, MLStepFailed

if TYPE_CHECKING:
    from airflow.sdk import Context

RETRIES = 4  # for errors of the infrastructure: Airflow's API, a host that does not start, a disk that is full
OWN = (MLStepFailed, MLProcessDied, AirflowTaskTimeout)


class StepRetries(RetryPolicy):
    """Ends the retries of a step that failed by itself: what it lacks will most often be lacking the next time.

    A failure before the task's code runs never comes here: it counts as a try, and Airflow's `retries` bound it.

    :param own: how often a step's own error is tried again
    """

    def __init__(self, own: int) -> None:
        self.own = own

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        retries = (context["task"].retries or 0) if context else max_tries
        earlier = try_number - (max_tries - retries) - 1  # tries since the task was last cleared
        if isinstance(exception, OWN) and earlier >= self.own:
            return RetryDecision.fail(f"the step failed by itself, and its own errors are retried {self.own} times")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        return {"own": self.own}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> StepRetries:
        return cls(**data)
