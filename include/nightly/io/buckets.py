"""What all clients of object stores share: how long they wait, and what their errors mean."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

# No time-out for a whole request, which may be a large object, but for silence.
CLIENT: dict[str, Any] = {"timeout": "7days", "connect_timeout": "10s", "read_timeout": "60s"}
RETRIES: dict[str, Any] = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}

Kind = Literal[
    "replaced", "expired", "no bucket", "missing", "keys", "refused", "region", "answered", "credentials", "unreachable"
]
KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthFailure", "AuthenticationFailed", "InvalidToken")
NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")


@dataclass(frozen=True)
class Problem:
    """What an error of obstore means.

    :ivar detail: the store's code, the HTTP status or the cause; never the message, whose URL may be signed
    """

    kind: Kind
    detail: str


def problem(error: Exception) -> Problem:
    """Return what an error of obstore means."""
    text, name = str(error), type(error).__name__
    match = re.search(r"<Code>(\w+)</Code>|\"code\": ?\"(\w+)\"", text)
    code = (match and (match[1] or match[2])) or ""
    status = next(iter(re.findall(r"status code: (\d+)|status: (\d+)", text)), ("", ""))
    status = status[0] or status[1]
    refused = name in ("PermissionDeniedError", "UnauthenticatedError") or status in ("401", "403")
    if name == "PreconditionError":
        return Problem("replaced", code)
    if "Expired" in code or re.search(r"<(Message|AuthenticationErrorDetail)>[^<]*(expired|time frame)", text):
        return Problem("expired", code)
    if code in NO_BUCKET or (status == "404" and "bucket does not exist" in text):
        return Problem("no bucket", code)
    if isinstance(error, FileNotFoundError) or status == "404":
        return Problem("missing", code)
    if code in KEYS:
        return Problem("keys", code)
    if refused:
        return Problem("refused", code or f"status {status}")
    if "incorrectly configured region" in text or status == "301":
        return Problem("region", code)
    if status:
        return Problem("answered", f"{status} {code}".rstrip())
    causes = re.findall(r'message: "([^"]+)"|"(dns error|tcp connect error)"|(operation timed out|TimedOut)', text)
    cause = next((next(filter(None, groups)) for groups in reversed(causes)), name)
    if re.search(
        r"169\.254\.169\.254|metadata\.google\.internal|[Mm]issing credential", text
    ):  # the machine's own role
        return Problem("credentials", cause)
    return Problem("unreachable", cause)
