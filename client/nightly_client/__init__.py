"""A client for model servers that speak TensorFlow Serving's protocols. It does not need TensorFlow."""

from .canary import Canary
from .client import Client, Metadata, Prediction, VersionStatus
from .errors import ServingError
from .log import PredictionLog, read_tfrecord
from .protos import example

__all__ = [
    "Canary",
    "Client",
    "Metadata",
    "Prediction",
    "PredictionLog",
    "ServingError",
    "VersionStatus",
    "example",
    "read_tfrecord",
]
