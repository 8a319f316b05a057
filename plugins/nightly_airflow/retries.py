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

    Tries lost to the infrastructure count only within Airflow's `retries`, also those that end before the task's code
    runs, which do not reach this policy.

    :param own: retries after a step's own error
    """

    def __init__(self, own: int) -> None:
        self.own = own

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        if not getattr(exception, "retry", True):
            return RetryDecision.fail("a retry would meet the same error: a person must act first")
        if isinstance(exception, OWN) and context and _own_errors(try_number, max_tries, context) > self.own:
            return RetryDecision.fail(f"the step failed by itself, and its own errors are retried {self.own} times")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        return {"own": self.own}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> StepRetries:
        return cls(**data)


def _own_errors(try_number: int, max_tries: int, context: Context) -> int:
    """Add this try to those that ended with the step's own error since the task was last cleared; return how many.

    Airflow keeps them for the next try. If its API does not answer, this raises, and Airflow decides by `retries`.
    """
    store, key = context["task_state_store"], f"own-errors-{max_tries}"  # clearing raises max_tries
    tries = {*store.get(key, []), try_number}
    store.set(key, sorted(tries))
    return len(tries)
