"""Sends notifications about nights: by webhook, Slack or mail. None is set up by default."""

from __future__ import annotations

import html
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import requests
from airflow.sdk import BaseHook, BaseNotifier, Variable
from airflow.sdk.exceptions import AirflowNotFoundException

from nightly.nights.causes import Cause, causes
from nightly.nights.report import evidence, headline, others, report
from nightly.records.verdict import Verdict

if TYPE_CHECKING:
    from airflow.sdk import Context

WEBHOOK = "nightly_webhook"  # an HTTP connection: host is the URL, a password its bearer token
SLACK = "nightly_slack"  # a Slack Incoming Webhook connection: password is the webhook's URL
MAIL = "nightly_notify_email"  # a variable: addresses, comma-separated; needs Airflow's smtp_default connection
SLACK_TEXT = 3000  # characters of a block, Slack's limit
SLACK_CAUSES = 40  # of the 50 blocks of a message


class VerdictNotifier(BaseNotifier):
    """Sends a verdict with its reasons to each channel that is set up.

    The channels are the connections `nightly_webhook` and `nightly_slack`, and the variable `nightly_notify_email`.
    The webhook gets JSON: `text` for chat services, and the whole `verdict` for programs. The text ends with the
    URLs of the night's page and of the run. Slack gets a block for each cause that held the night.
    """

    def __init__(self, verdict: Verdict, run_url: str = "", page_url: str = "") -> None:
        super().__init__()
        self.verdict = verdict
        self.run_url = run_url
        self.page_url = page_url

    def notify(self, context: Context) -> None:
        failures = []
        for send in (self._post, self._slack, self._mail):
            try:
                send(context)
            except Exception as error:  # the other channels still get the verdict
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
        body: dict[str, Any] = {
            "text": self.text,
            "page_url": self.page_url,
            "run_url": self.run_url,
            "verdict": self.verdict.model_dump(mode="json"),
        }
        requests.post(url, json=body, headers=headers, timeout=30).raise_for_status()
        self.log.info("the verdict went to the webhook %s", WEBHOOK)

    def _slack(self, context: Context) -> None:
        try:
            BaseHook.get_connection(SLACK)
        except AirflowNotFoundException:
            return
        from airflow.providers.slack.notifications.slack_webhook import SlackWebhookNotifier

        SlackWebhookNotifier(
            slack_webhook_conn_id=SLACK,
            text=_slack_text(f"{self.verdict.model}: {headline(self.verdict)}"),  # the push notification's text
            blocks=slack_blocks(self.verdict, {"The night": self.page_url, "The run in Airflow": self.run_url}),
            unfurl_links=False,
            timeout=30,
        ).notify(context)
        self.log.info("the verdict went to Slack, by %s", SLACK)

    def _mail(self, context: Context) -> None:
        addresses = Variable.get(MAIL, default="")
        if not addresses:
            return
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        SmtpNotifier(
            to=[address.strip() for address in addresses.split(",")],
            subject=f"{self.verdict.model}: {headline(self.verdict)}"[:200],
            html_content=f"<pre>{html.escape(self.text, quote=False)}</pre>",
        ).notify(context)
        self.log.info("the verdict went to %s", addresses)


def slack_blocks(verdict: Verdict, links: dict[str, str]) -> list[dict[str, Any]]:
    """Return a verdict as Slack's Block Kit, within its limits: headline, error, causes with their values, links."""
    held_by = causes(verdict.reasons)
    texts = [_slack_text(f"{verdict.model}: {headline(verdict)}")]
    if verdict.damage:
        texts.append(_slack_text(verdict.damage))
    if verdict.error:
        texts.append(_slack_text(verdict.error.replace("```", "'''"), "```{}```"))
    texts += [_slack_cause(cause) for cause in held_by[:SLACK_CAUSES]]
    if len(held_by) > SLACK_CAUSES:
        texts.append(f"… and {len(held_by) - SLACK_CAUSES} more causes")
    texts += filter(None, [others(verdict.reasons)])
    if link_texts := [f"<{html.escape(url, quote=False)}|{name}>" for name, url in links.items() if url]:
        texts.append(" · ".join(link_texts))
    return [{"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in texts]


def _slack_cause(cause: Cause) -> str:
    return _slack_text("\n".join([f"• {cause.headline}", *evidence(cause), cause.action]).rstrip())


def _slack_text(text: str, template: str = "{}") -> str:
    """Return `text` in `template`, with Slack's three special characters escaped and cut to the size of a block."""
    room = SLACK_TEXT - len(template)
    if len(html.escape(text, quote=False)) > room:
        ends = accumulate(len(html.escape(character, quote=False)) for character in text)
        text = text[: sum(end <= room - 2 for end in ends)] + " …"
    return template.format(html.escape(text, quote=False))
