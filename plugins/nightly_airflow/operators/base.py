"""The base class of a night's tasks: its folder, its request, and recorded errors that the verdict quotes."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    DownstreamTasksSkipped,
    TaskDeferred,
)

from nightly.io.errors import UserError
from nightly.io.hints import did_you_mean
from nightly.io.paths import Paths
from nightly.io.secrets import masked
from nightly.models import load_config
from nightly.records.night import Night, StepError, utc_now
from nightly.release.store import ReleaseStore
from nightly.state import current, publish

if TYPE_CHECKING:
    from airflow.sdk import Context

SIGNALS = (AirflowSkipException, DownstreamTasksSkipped, TaskDeferred)  # raised by tasks that have no error
ERROR_KEY = "error"  # the XCom of an error that could not be written to the night's folder

log = logging.getLogger(__name__)


class NightOperator(BaseOperator):
    """One task of a night.

    :param model: the name of the model's folder in include/models
    :param run_id: the run whose night this works on
    """

    template_fields: Sequence[str] = ("model", "run_id")

    def __init__(self, *, model: str, run_id: str = "{{ run_id }}", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.run_id = run_id

    @cached_property
    def paths(self) -> Paths:
        """The paths of the task's session, while it works."""
        return Paths.from_environment()

    @property
    def folder(self) -> Path:
        return self.paths.night(self.model, self.run_id)

    def notification_mark(self, context: Context) -> Path:
        """Return the file that exists once this task has notified, in any try since it was last cleared."""
        return notified_mark(self.folder, self.task_id, context["ti"].max_tries)

    def night(self) -> Night:
        """Return the request that the plan task wrote. Raise FileNotFoundError or ContractError."""
        return Night.load(self.folder / Night.FILE)

    def settle_releases(self) -> None:
        """Hide a version whose release died before the model server had verified it."""
        store = ReleaseStore(self.paths.serving, self.paths.releases, self.model)
        if store.disk.undecided():
            from nightly.serving.server import find_server

            for record in store.settle(find_server(self.paths, self.model, load_config(self.model).release)):
                self.log.warning("%s %s is out of sight: its release died", record.model, record.version)

    def execute(self, context: Context) -> Any:
        return self.run_recording_errors(self.perform, context)

    def run_recording_errors(self, work: Callable[[Context], Any], context: Context) -> Any:
        """Do `work` in a session; record its error for the verdict, in the night's folder or, if that fails, in XCom.

        It fails if the disk is full, the bucket is not reached, or another host has changed a record.
        """
        return self.in_session(partial(self._record_errors, work), context)

    def in_session(self, work: Callable[[Context], Any], context: Context) -> Any:
        """Do `work` in a session of the state. An error of the session itself goes to XCom, for the verdict."""
        raised: BaseException | None = None
        try:
            with current().session(self.model) as self.paths:
                try:
                    return work(context)
                except SIGNALS as signal:  # no error: what the task wrote must be published first
                    raised = signal
                except BaseException as error:
                    raised = error
                    raise
        except (Exception, AirflowTaskTimeout) as error:
            if error is not raised:
                self._push_error(self._message(error), context)
            raise
        assert raised
        raise raised

    def _record_errors(self, work: Callable[[Context], Any], context: Context) -> Any:
        failure = self.folder / StepError.FILE.format(self.task_id)
        try:
            if failure.exists():  # gone at once for all hosts: a task that is killed leaves no error of an earlier try
                failure.unlink()
                publish(failure)
            return work(context)
        except SIGNALS:
            raise
        except (Exception, AirflowTaskTimeout) as error:
            self._record_error(error, failure, context)
            raise

    def notify_once(self, send: Callable[[Context], None], context: Context) -> None:
        """Call `send` once for all tries of this task; after a person clears the task, it notifies again.

        An error of `send` is only logged.
        """
        notify_once(partial(send, context), self.notification_mark(context))

    def _record_error(self, error: BaseException, path: Path, context: Context) -> None:
        number, message = context["ti"].try_number, self._message(error)
        try:
            StepError(task=self.task_id, message=message, try_number=number, failed_at=utc_now()).save(path)
            publish(path)  # now: what is lost at the session's end is only logged
        except (OSError, UserError, AirflowTaskTimeout) as unwritten:
            self.log.error("%s cannot be written: %s", path, unwritten)
            self._push_error(message, context)

    def _push_error(self, message: str, context: Context) -> None:
        self.log.error("XCom keeps this error: %s", message)
        context["ti"].xcom_push(key=ERROR_KEY, value=message)

    def perform(self, context: Context) -> Any:
        """Do the task's work; the returned value is pushed to XCom."""
        raise NotImplementedError

    def _message(self, error: BaseException) -> str:
        if isinstance(error, AirflowTaskTimeout):
            return f"it was ended after {self.execution_timeout or dt.timedelta()}, the time it is allowed"
        return masked(str(error)) or type(error).__name__


def notified_mark(folder: Path, task_id: str, max_tries: int) -> Path:
    """Return the file that marks a task as having notified; clearing raises `max_tries`, so the task notifies again."""
    return folder / f"{task_id}.notified-{max_tries}"


def notify_once(send: Callable[[], object], mark: Path) -> None:
    """Call `send` unless the file `mark` exists, then create it, for all hosts. Errors are only logged.

    The mark is an empty file, which a full disk can still hold.
    """
    if mark.exists():
        log.info("the notification was sent before: %s is there", mark)
        return
    try:
        send()
    except Exception:
        log.exception("the notification could not be sent")
        return
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        publish(mark)
    except (OSError, UserError):
        log.exception("%s cannot be written, so a retry notifies again", mark)


def rendered(text: str) -> str:
    """Return as many lines of `text` as fit into a rendered template, which Airflow would cut otherwise."""
    limit = conf.getint("core", "max_templated_field_length")
    if len(text) <= limit:
        return text
    ending = "\n… and more: the whole text is in this task's log, and on the night's page"
    return text[: max(limit - len(ending), 0)].rpartition("\n")[0] + ending


def refuse_unknown_keys(context: Context) -> None:
    """Fail the task without a retry if the run's conf has a key that the DAG's params do not have.

    Airflow adds such a key to the params and goes on: a misspelt `as_of` would run today's night.
    """
    names = list(context["dag"].params)
    unknown = [key for key in context["dag_run"].conf or {} if key not in names]
    if unknown:
        lines = [f"  {key}: there is no such key{did_you_mean(key, names)}" for key in unknown]
        raise AirflowFailException("\n".join(["the conf that this run was triggered with is not valid:", *lines]))
