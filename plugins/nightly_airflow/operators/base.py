"""What every task of a night shares: its folder, its request, and an error that the verdict can quote."""

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
)

from nightly.io.hints import did_you_mean
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.records.night import Night, StepError, utc_now
from nightly.release.store import ReleaseStore

if TYPE_CHECKING:
    from airflow.sdk import Context

ERROR_KEY = "error"  # the XCom of an error that could not be written to the night's folder

log = logging.getLogger(__name__)


class NightOperator(BaseOperator):
    """One task of a night.

    :param model: the folder's name under include/models
    :param run_id: the run whose folder holds the night's records; another run's id works on that night instead
    """

    template_fields: Sequence[str] = ("model", "run_id")

    def __init__(self, *, model: str, run_id: str = "{{ run_id }}", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.run_id = run_id

    @cached_property
    def paths(self) -> Paths:
        return Paths.from_environment()

    @property
    def folder(self) -> Path:
        return self.paths.night(self.model, self.run_id)

    def notified(self, context: Context) -> Path:
        """The mark that this task has notified, in any of its tries since it was last cleared."""
        return notified_mark(self.folder, self.task_id, context["ti"].max_tries)

    def night(self) -> Night:
        """What the plan task wrote. Raises FileNotFoundError, or ContractError."""
        return Night.load(self.folder / "request.json")

    def settle_releases(self) -> None:
        """Take a version out of sight whose release died before the model server had verified it."""
        store = ReleaseStore(self.paths.serving, self.paths.releases, self.model)
        if store.disk.undecided():
            from nightly.serving.server import find_server

            for record in store.settle(find_server(self.paths, self.model, load_config(self.model).release)):
                self.log.warning("%s %s is out of sight: its release died", record.model, record.version)

    def execute(self, context: Context) -> Any:
        return self.recorded(self.perform, context)

    def recorded(self, work: Callable[[Context], Any], context: Context) -> Any:
        """Do `work`; its error stands in the night's folder, or in XCom on a full disk, for the verdict to quote."""
        failure = self.folder / f"{self.task_id}.error.json"
        failure.unlink(missing_ok=True)
        try:
            return work(context)
        except (AirflowSkipException, DownstreamTasksSkipped):
            raise
        except (Exception, AirflowTaskTimeout) as error:
            self._keep(error, failure, context)
            raise

    def notify_once(self, send: Callable[[Context], None], context: Context) -> None:
        """Notify by `send`, once for all tries of this task; a task that a person clears notifies again.

        What cannot be sent is an error in the log, whatever a mail server or a webhook does.
        """
        notify_once(partial(send, context), self.notified(context))

    def _keep(self, error: BaseException, path: Path, context: Context) -> None:
        ti, message = context["ti"], self._message(error)
        try:
            StepError(task=self.task_id, message=message, try_number=ti.try_number, failed_at=utc_now()).save(path)
        except OSError as full:
            self.log.error("%s cannot be written (%s), so XCom keeps this error: %s", path, full, message)
            ti.xcom_push(key=ERROR_KEY, value=message)

    def perform(self, context: Context) -> Any:
        """The task's work; what it returns is pushed to XCom."""
        raise NotImplementedError

    def _message(self, error: BaseException) -> str:
        if isinstance(error, AirflowTaskTimeout):
            return f"it was ended after {self.execution_timeout or dt.timedelta()}, the time it is allowed"
        return str(error) or type(error).__name__


def notified_mark(folder: Path, task_id: str, max_tries: int) -> Path:
    """Return the file that says that a task has notified; clearing raises `max_tries`, so that it notifies again."""
    return folder / f"{task_id}.notified-{max_tries}"


def notify_once(send: Callable[[], object], mark: Path) -> None:
    """Call `send` unless `mark` is there, then leave `mark`. What fails is an error in the log and changes nothing.

    The mark is an empty file: a full disk has room for it.
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
    except OSError:
        log.exception("%s cannot be written, so a retry notifies again", mark)


def rendered(text: str) -> str:
    """Return as many lines of `text` as Airflow keeps of a rendered template, which it would cut with a remark."""
    room = conf.getint("core", "max_templated_field_length")
    if len(text) <= room:
        return text
    rest = "\n… and more: the whole text is in this task's log, and on the night's page"
    return text[: max(room - len(rest), 0)].rpartition("\n")[0] + rest


def refuse_unknown_keys(context: Context) -> None:
    """Fail the task, without a retry, for each key of the run's conf that its DAG's form does not have.

    Airflow adds such a key to the params and goes on: with a misspelt `as_of` it would be a night of today.
    """
    names = list(context["dag"].params)
    unknown = [key for key in context["dag_run"].conf or {} if key not in names]
    if unknown:
        lines = [f"  {key}: there is no such key{did_you_mean(key, names)}" for key in unknown]
        raise AirflowFailException("\n".join(["the conf that this run was triggered with is not valid:", *lines]))
