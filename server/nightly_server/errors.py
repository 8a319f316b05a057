"""The one error of the model server: a canonical status code and TensorFlow Serving's own text for it."""

import grpc

from nightly_server.limits import excerpt

_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


class ServingError(Exception):
    """What a request, a load or a reload failed with. `str()` is the form TensorFlow Serving logs: `CODE: message`."""

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
        """Any exception with its nearest code.

        TensorFlow's errors keep theirs, a request that is too much for Python is at fault itself, and the unforeseen
        ones are INTERNAL.
        """
        if isinstance(error, ServingError):
            return error
        if hasattr(error, "error_code"):  # tf.errors.OpError, told by its field: importing it would cost seconds
            return cls(_BY_NUMBER[error.error_code], error.message)
        if isinstance(error, RecursionError):
            return invalid("The request is nested too deeply")
        if isinstance(error, MemoryError):
            return cls(grpc.StatusCode.RESOURCE_EXHAUSTED, f"The request needs more memory than there is: {error}")
        return cls(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")

    @classmethod
    def of_run(cls, error: Exception) -> "ServingError":
        """The same for an error of a run, of which TensorFlow quotes whole inputs."""
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
