"""Downloads the night's rows from the model's source."""

from __future__ import annotations

from functools import cached_property

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from nightly.io.secrets import hide
from nightly.models import config_of
from nightly.records.connection import Connection, variable
from nightly_airflow.hooks.ml import MLHook
from nightly_airflow.operators.ml import MLStepOperator


class DownloadOperator(MLStepOperator):
    """Runs the step `download`, which writes download.json (contract Download).

    It runs in a process of its own: it needs no TensorFlow, and the credentials of the source's connection are in the
    environment of that process alone.
    """

    @cached_property
    def hook(self) -> MLHook:
        return MLHook(warm=False, paths=self.paths)

    def environment(self) -> dict[str, str]:
        """Return the source's Airflow connection in the environment variable that Airflow itself would read."""
        name = config_of(self.night()).source.connection
        if not name:
            return {}
        try:
            text = BaseHook.get_connection(name).as_json()
        except AirflowNotFoundException:
            Connection.from_environment(name)  # raises if there is one, and Airflow could not read it
            return {}  # the step says so, and uses the address of the model's config
        # Airflow masks the values that its lists name; a night masks some more, in logs and in errors.
        hide(Connection.read(name, text).secrets())
        return {variable(name): text}
