"""Errors of sources."""

from nightly.io.errors import UserError


class SourceError(UserError):
    """A source does not deliver its bodies. The message names the cause, the place and the next action."""


class RefusedError(SourceError):
    """The source refuses what is asked for, and would refuse it again: a wrong password, a missing table or column."""

    retry = False


class ConnectionFailedError(SourceError):
    """The connection fails, breaks, or is silent for longer than the time-out."""


class HttpStatusError(SourceError):
    """The response has an error status."""

    def __init__(self, message: str, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after  # seconds, from the response


class HtmlPageError(SourceError):
    """The response is an HTML page and not data: a maintenance page, a log-in, or a wrong address."""


class EmptyBodyError(SourceError):
    """A successful response has no bytes, although a source without rows still sends a header line."""


class IncompleteBodyError(SourceError):
    """The body has fewer bytes than announced, or its compressed data end too early."""


class ChecksumError(SourceError):
    """The body does not match the server's checksum."""


class EncodingError(SourceError):
    """The response has a Content-Encoding that was not requested."""


class PathNotFoundError(SourceError):
    """The path of a files source does not exist."""


class NothingFoundError(SourceError):
    """A path has no file of a readable kind."""


class UnreadableFileError(SourceError):
    """A file is not readable by this user, empty, damaged, or of another kind than its name."""


class NoAccessError(SourceError):
    """The credentials are wrong, have expired, or do not allow to read."""
