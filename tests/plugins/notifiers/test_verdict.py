"""The notifier speaks to a real web server and a real mail server, and only when it is told to."""

import json
import re
import socketserver

import pytest

from nightly.records.night import Reason, utc_now
from nightly.records.verdict import Outcome, Verdict
from nightly_airflow.notifiers.verdict import VerdictNotifier
from tests.support.receivers import serving, web_server

REASON = Reason(
    check="drift",
    subject="a<b",
    figure=0.3,
    threshold=0.1,
    held=True,
    message="a<b drifted by 0.3",
    control="last_accepted",
)
VERDICT = Verdict(
    model="taxi",
    run_id="tonight",
    outcome=Outcome.HELD_DATA,
    summary="the data gate held the night",
    reasons=[REASON],
    decided_at=utc_now(),
)
NOTIFIER = {
    "verdict": VERDICT,
    "run_url": "http://airflow/dags/taxi_retrain/runs/tonight",
    "page_url": "http://airflow/plugin/nightly/nightly/taxi/nights/tonight",
}


@pytest.fixture
def webhook(monkeypatch):
    with web_server() as (url, received):
        connection = {"conn_type": "http", "host": f"{url}/hook", "password": "a token"}
        monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_WEBHOOK", json.dumps(connection))
        yield received


@pytest.fixture
def mail(monkeypatch):
    """A mail server that keeps what it is sent; yields the list of messages."""
    received = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"220 ready\r\n")
            while line := self.rfile.readline():
                word = line.split(None, 1)[0].upper() if line.strip() else b""
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    received.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "nightly@example.org"}
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        monkeypatch.setenv("AIRFLOW_VAR_NIGHTLY_NOTIFY_EMAIL", "mary@example.org, john@example.org")
        yield received


@pytest.fixture(autouse=True)
def off(monkeypatch):
    """None is there, unless a fixture says so; an empty one counts as none."""
    monkeypatch.setenv("AIRFLOW_VAR_NIGHTLY_NOTIFY_EMAIL", "")


def test_the_webhook_gets_the_reasons_as_text_and_the_verdict_as_json(webhook):
    VerdictNotifier(**NOTIFIER).notify({})
    [(headers, body)] = webhook
    assert headers["Authorization"] == "Bearer a token"
    assert "HELD_DATA: the data gate held the night" in body["text"] and "a<b drifted by 0.3" in body["text"]
    assert NOTIFIER["page_url"] in body["text"] and body["text"].endswith(NOTIFIER["run_url"])
    assert body["verdict"]["reasons"][0]["figure"] == 0.3


def test_mail_goes_to_every_address(webhook, mail):
    VerdictNotifier(**NOTIFIER).notify({})
    [message] = mail
    assert "Subject: " in message and "mary@example.org, john@example.org" in message
    assert webhook, "and to the webhook as well"


def test_one_way_that_fails_does_not_close_the_other(mail, monkeypatch):
    connection = json.dumps({"conn_type": "http", "host": "http://127.0.0.1:9/"})
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_WEBHOOK", connection)
    with pytest.raises(ExceptionGroup, match="could not be sent"):
        VerdictNotifier(**NOTIFIER).notify({})
    assert len(mail) == 1


def test_slack_gets_a_block_for_each_cause_with_its_figures_and_links(slack, webhook):
    VerdictNotifier(**NOTIFIER).notify({})
    [(_, body)] = slack
    texts = [block["text"]["text"] for block in body["blocks"]]
    assert body["text"] == "taxi: ! HELD_DATA: the data gate held the night" == texts[0]
    assert texts[1] == "• a&lt;b drifted by 0.3\ndrift of a&lt;b, against last accepted  0.3  threshold 0.1"
    assert texts[2] == f"<{NOTIFIER['page_url']}|The night> · <{NOTIFIER['run_url']}|The run in Airflow>"
    assert body["unfurl_links"] is False and webhook, "and the webhook gets it as well"


def test_what_is_too_long_for_slack_is_cut_and_markup_in_it_stays_text(slack):
    """Slack refuses a message with a block of over 3,000 characters, or with over 50 blocks."""
    evil = "<!channel> & ``` *x*" * 1000
    reasons = [REASON.model_copy(update={"message": evil, "subject": f"feature {n}"}) for n in range(60)]
    verdict = VERDICT.model_copy(update={"reasons": reasons, "error": evil, "summary": evil})
    VerdictNotifier(**{**NOTIFIER, "verdict": verdict}).notify({})
    [(_, body)] = slack
    texts = [block["text"]["text"] for block in body["blocks"]]
    assert len(texts) <= 50 and max(map(len, [body["text"], *texts])) <= 3000
    assert "… and 20 more causes" in texts
    for text in texts[:-1]:
        assert not re.search(r"<|&(?!amp;|lt;|gt;)", text), "no markup, and no entity is cut in two"
    error = next(text for text in texts if text.startswith("```"))
    assert error.endswith(" …```") and "```" not in error[3:-3]


def test_a_slack_that_refuses_is_an_error_that_does_not_close_the_others(slack, webhook):
    slack.status = 403
    with pytest.raises(ExceptionGroup, match="could not be sent"):
        VerdictNotifier(**NOTIFIER).notify({})
    assert len(webhook) == 1
