"""Replays the warm-up requests of an export before it becomes available."""

import logging
import time

import grpc
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from nightly_server import inference
from nightly_server.errors import ServingError, invalid
from nightly_server.monitoring import WARMUP_LATENCY, Metrics
from nightly_server.servable import Servable

log = logging.getLogger(__name__)

FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000


def warm_up(servable: Servable, path: str, metrics: Metrics) -> None:
    """Replay the requests in the version's folder `path`. Raises ServingError at the first that fails."""
    file = f"{path}/{FILE}"
    if not tf.io.gfile.exists(file):
        log.info("No warmup data file found at %s", file)
        return
    started, records = time.monotonic(), 0
    try:
        for record in tf.compat.v1.io.tf_record_iterator(file):
            records += 1
            if records > MAX_RECORDS:
                raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}")
            _replay(servable, prediction_log_pb2.PredictionLog.FromString(record))
    except tf.errors.DataLossError as error:
        text = f"{error.message}. Please verify your warmup data is in TFRecord format."
        raise ServingError(grpc.StatusCode.DATA_LOSS, text) from None
    elapsed = (time.monotonic() - started) * 1e6
    metrics.observe(WARMUP_LATENCY, elapsed, model_path=path, status="OK")
    log.info("Read %s warmup records from %s in %.0f ms", records, file, elapsed / 1e3)


def _replay(servable: Servable, record: prediction_log_pb2.PredictionLog) -> None:
    """Run a warm-up record and drop its response."""
    kind = record.WhichOneof("log_type")
    if kind == "predict_log":
        inference.predict_response(servable, record.predict_log.request)
    elif kind == "classify_log":
        inference.classification_response(servable, record.classify_log.request)
    elif kind == "regress_log":
        inference.regression_response(servable, record.regress_log.request)
    elif kind == "multi_inference_log":
        inference.multi_inference_response(servable, record.multi_inference_log.request)
    elif kind is not None:
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}")
