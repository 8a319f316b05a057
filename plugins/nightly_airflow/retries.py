"""The retry policy: many retries for errors of the infrastructure, few for errors of the step itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowTaskTimeout

from nightly_airflow.hooks.ml import MLProcessDied, MLStepFailed

if TYPE_CHECKING:
    from airflow.sdk import Context

RETRIES = 4  # for errors of the infrastructure: Airflow's API, the bucket, a host that does not start, a full disk
OWN = (MLStepFailed, MLProcessDied, AirflowTaskTimeout)


class StepRetries(RetryPolicy):
    """Limits the retries after a step's own error, which mostly recurs.

    A failure before the task's code runs does not reach this policy: it counts as a try, within Airflow's `retries`.

    :param own: retries after a step's own error
    """

    def __init__(self, own: int) -> None:
        self.own = own

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        retries = (context["task"].retries or 0) if context else max_tries
        earlier = try_number - (max_tries - retries) - 1  # tries since the task was last cleared
        if not getattr(exception, "retry", True):
            return RetryDecision.fail("a retry would meet the same error: a person must act first")
        if isinstance(exception, OWN) and earlier >= self.own:
            return RetryDecision.fail(f"the step failed by itself, and its own errors are retried {self.own} times")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        return {"own": self.own}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> StepRetries:
        return cls(**data)
