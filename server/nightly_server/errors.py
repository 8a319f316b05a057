"""The model server's error: a canonical status code and TensorFlow Serving's own text."""

import grpc

from nightly_server.limits import excerpt

_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


class ServingError(Exception):
    """The error of a request, a load or a reload. `str()` is `CODE: message`, as TensorFlow Serving logs it."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    @property
    def number(self) -> int:
        """The code in a status proto, as in tensorflow.error.Code."""
        return self.code.value[0]

    @classmethod
    def of(cls, error: Exception) -> "ServingError":
        """Return any exception as a ServingError with the nearest code.

        TensorFlow's errors keep their codes, requests that exceed Python's limits get a client error, and unexpected
        errors are INTERNAL.
        """
        if isinstance(error, ServingError):
            return error
        if hasattr(error, "error_code"):  # tf.errors.OpError, whose import would take seconds
            return cls(_BY_NUMBER[error.error_code], error.message)
        if isinstance(error, RecursionError):
            return invalid("The request is nested too deeply")
        if isinstance(error, MemoryError):
            return cls(grpc.StatusCode.RESOURCE_EXHAUSTED, f"The request needs more memory than there is: {error}")
        return cls(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")

    @classmethod
    def of_run(cls, error: Exception) -> "ServingError":
        """Return the same for an error of a run, with a short message: TensorFlow quotes whole inputs."""
        failure = cls.of(error)
        return failure if failure is error else cls(failure.code, excerpt(failure.message))


def unknown(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.UNKNOWN, message)


def invalid(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def exceeded(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, message)


def precondition(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)


def not_found(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.NOT_FOUND, message)
