"""What the headers of an HTTP response say, and how an address is shown."""

import base64
import binascii
import contextlib
import datetime as dt
import logging
import re
from collections.abc import Collection, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests
import urllib3
from urllib3.util.retry import Retry

from nightly.records.http_config import SECRET

log = logging.getLogger(__name__)

TOTAL_HEADERS = ("X-Total-Count", "X-Total", "X-WP-Total", "Content-Range")
TOTAL = re.compile(r"(?:(?!bytes\b)[\w-]* ?\d+-\d+/)?(\d+)")  # 319, or a range of rows such as "items 0-24/319"
HTML_TYPES = ("text/html", "application/xhtml+xml")


def fingerprint_of(headers: Mapping[str, str]) -> str:
    """Return the ETag, else the Last-Modified date, else "". `condition_of` asks whether the body has changed since."""
    return headers.get("ETag") or headers.get("Last-Modified", "")


def condition_of(fingerprint: str) -> dict[str, str]:
    """Return the header that asks for a body only if it has another fingerprint."""
    if not fingerprint:
        return {}
    etag = fingerprint.startswith(('"', 'W/"'))
    return {"If-None-Match" if etag else "If-Modified-Since": fingerprint}


def strong_validator_of(headers: Mapping[str, str]) -> str:
    """Return what proves that a later range is of the same body (RFC 9110, 8.8 and 13.1.5), or ""."""
    etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    if etag:
        return "" if etag.startswith("W/") else etag
    try:  # a body may change twice within the second that it was modified in
        age = parsedate_to_datetime(headers.get("Date", "")) - parsedate_to_datetime(modified)
    except (ValueError, TypeError):
        return ""
    return modified if age >= dt.timedelta(seconds=1) else ""


def encoding_of(headers: Mapping[str, str]) -> str:
    """Return the Content-Encoding; "" for none."""
    encoding = headers.get("Content-Encoding", "").strip().lower()
    return {"identity": "", "x-gzip": "gzip"}.get(encoding, encoding)


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of Retry-After, or None."""
    value = headers.get("Retry-After")
    try:
        return Retry().parse_retry_after(value) if value else None
    except urllib3.exceptions.InvalidHeader:
        return None


def is_html(headers: Mapping[str, str]) -> bool:
    """Return whether the Content-Type is HTML."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() in HTML_TYPES


def next_link_of(headers: Mapping[str, str]) -> str:
    """Return the address of `Link: <…>; rel=next` (RFC 8288), or ""."""
    links = requests.utils.parse_header_links(headers.get("Link", ""))
    return next((link["url"] for link in links if "next" in link.get("rel", "").lower().split()), "")


def total_of(headers: Mapping[str, str]) -> tuple[str, int] | None:
    """Return the header with the number of all rows, and the number; None if there is none."""
    for name in TOTAL_HEADERS:
        if match := TOTAL.fullmatch(headers.get(name, "").strip()):
            return name, int(match[1])
    return None


def checksums_of(headers: Mapping[str, str]) -> dict[str, bytes]:
    """Return hashlib's name -> digest of the complete body. An ETag does not count as a digest."""
    digests = [("md5", headers.get("Content-MD5", ""))]
    fields = ["Digest", "Repr-Digest", "Content-Digest"]  # RFC 3230, RFC 9530
    # Google's hash is of the stored object, which may be compressed while the response is not.
    if headers.get("x-goog-stored-content-encoding", "identity") == headers.get("Content-Encoding", "identity"):
        fields.append("x-goog-hash")
    for name in fields:
        digests += [tuple(item.strip().split("=", 1)) for item in headers.get(name, "").split(",") if "=" in item]
    algorithms = {"md5": "md5", "sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}
    checksums = {}
    for name, value in digests:
        if value and name.lower() in algorithms:
            try:
                checksums[algorithms[name.lower()]] = base64.b64decode(value.strip(":"), validate=True)
            except binascii.Error:
                log.warning("ignored the server's %s checksum %r: it is not base64", name, value)
    return checksums


def public(url: str, params: Mapping[str, str] | None = None, secret: Collection[str] = ()) -> str:
    """Return the URL with `params`, without user and password, and with *** for secret parameters.

    :param secret: names of parameters that are secret, besides those that sound so
    """
    with contextlib.suppress(requests.RequestException):  # it is no address; the request will say so
        url = requests.Request("GET", url, params=params).prepare().url or url
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    hidden = {name for name, _ in pairs if name in secret or SECRET.search(name)}
    if hidden:
        shown = [(name, "***" if name in hidden else value) for name, value in pairs]
        return urlunsplit(parts._replace(netloc=netloc, query=urlencode(shown, safe="*")))
    return urlunsplit(parts._replace(netloc=netloc))


def looks_like_html(start: bytes) -> bool:
    return bool(re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body|\?xml)", start, re.IGNORECASE))


def excerpt(start: bytes) -> str:
    return repr(" ".join(start.decode(errors="replace").split())[:200])
