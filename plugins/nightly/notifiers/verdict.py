"""Tells people about a night that did not release: by a webhook, by mail, or, as it comes, not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests
from airflow.sdk import BaseHook, BaseNotifier, Variable
from airflow.sdk.exceptions import AirflowNotFoundException

from include.contracts.verdict import Verdict
from nightly.card import headline, report

if TYPE_CHECKING:
    from airflow.sdk import Context

WEBHOOK = "nightly_webhook"  # an HTTP connection: host is the URL, a password its bearer token
MAIL = "nightly_notify_email"  # a variable: addresses, comma-separated; needs Airflow's smtp_default connection


class VerdictNotifier(BaseNotifier):
    """Sends a verdict with its reasons wherever the connection `nightly_webhook` and the variable
    `nightly_notify_email` point; neither exists at first.

    The webhook gets JSON: `text` for chat services, and the whole `verdict` for programs. The text ends with the
    addresses of the night's page and of the run.
    """

    def __init__(self, verdict: Verdict, run_url: str = "", page_url: str = "") -> None:
        super().__init__()
        self.verdict = verdict
        self.run_url = run_url
        self.page_url = page_url

    def notify(self, context: Context) -> None:
        failures = []
        for send in (self._post, self._mail):
            try:
                send(context)
            except Exception as error:  # one way that fails must not close the other
                failures.append(error)
        if failures:
            raise ExceptionGroup(f"the verdict on {self.verdict.model} could not be sent", failures)

    @property
    def text(self) -> str:
        links = [url for url in (self.page_url, self.run_url) if url]
        return "\n".join([report(self.verdict), "", *links]).rstrip()

    def _post(self, context: Context) -> None:
        try:
            connection = BaseHook.get_connection(WEBHOOK)
        except AirflowNotFoundException:
            return
        host = connection.host or ""
        port = f":{connection.port}" if connection.port else ""
        url = host if "://" in host else f"{connection.schema or 'https'}://{host}{port}"
        headers = {"Authorization": f"Bearer {connection.password}"} if connection.password else {}
        body = {
            "text": self.text,
            "page_url": self.page_url,
            "run_url": self.run_url,
            "verdict": self.verdict.model_dump(mode="json"),
        }
        requests.post(url, json=body, headers=headers, timeout=30).raise_for_status()
        self.log.info("the verdict went to the webhook %s", WEBHOOK)

    def _mail(self, context: Context) -> None:
        addresses = Variable.get(MAIL, default="")
        if not addresses:
            return
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        SmtpNotifier(
            to=[address.strip() for address in addresses.split(",")],
            subject=f"{self.verdict.model}: {headline(self.verdict)}"[:200],
            html_content=f"<pre>{_escape(self.text)}</pre>",
        ).notify(context)
        self.log.info("the verdict went to %s", addresses)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
