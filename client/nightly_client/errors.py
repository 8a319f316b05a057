"""The error of a failed call."""


class ServingError(Exception):
    """The server refused a call or was not reached.

    :param code: the canonical gRPC name, also over REST: INVALID_ARGUMENT, NOT_FOUND, UNAVAILABLE, …
    :param message: the server's own text
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
