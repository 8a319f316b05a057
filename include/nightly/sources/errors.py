"""What can go wrong with a source, one class a kind."""

from nightly.io.errors import UserError


class SourceError(UserError):
    """A source could not give its bodies; the message says what, where, and what to do."""


class ConnectionFailedError(SourceError):
    """No connection, a broken one, or silence for longer than the time-out."""


class HttpStatusError(SourceError):
    """An answer whose status is not success."""

    def __init__(self, message: str, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after  # seconds the server asks to wait


class HtmlPageError(SourceError):
    """A page for people where data was asked for: a maintenance page, a log-in, a wrong address."""


class EmptyBodyError(SourceError):
    """Success, and not a single byte: a source with no rows still sends a header line."""


class IncompleteBodyError(SourceError):
    """Fewer bytes than announced, or compressed data that ends too early."""


class ChecksumError(SourceError):
    """The bytes are not those that the server's checksum is of."""


class EncodingError(SourceError):
    """A Content-Encoding that was not asked for."""


class PathNotFoundError(SourceError):
    """The path of a files source does not exist."""


class NothingFoundError(SourceError):
    """A folder without a file of a kind that can be read."""


class UnreadableFileError(SourceError):
    """A file that may not be read, or is not what its name says."""
