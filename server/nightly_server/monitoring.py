"""Metrics under TensorFlow Serving's names, and the page that Prometheus reads."""

import threading
from bisect import bisect_left
from collections.abc import Iterable

REQUEST_COUNT = "/tensorflow/serving/request_count"
REQUEST_LATENCY = "/tensorflow/serving/request_latency"
RUNTIME_LATENCY = "/tensorflow/serving/runtime_latency"
EXAMPLE_COUNTS = "/tensorflow/serving/request_example_counts"
EXAMPLE_COUNT_TOTAL = "/tensorflow/serving/request_example_count_total"
WARMUP_LATENCY = "/tensorflow/serving/model_warmup_latency"
LOAD_ATTEMPTS = "/tensorflow/cc/saved_model/load_attempt_count"
LOAD_LATENCY = "/tensorflow/cc/saved_model/load_latency"
QUEUING_LATENCY = "/tensorflow/serving/batching_session/queuing_latency"
BATCH_SIZE = "/tensorflow/serving/batching_session/processed_batch_size"


def _exponential(scale: float, growth: float, count: int) -> list[float]:
    return [scale * growth**i for i in range(count)]


_MICROSECONDS = _exponential(10, 1.8, 33)  # to about 20 minutes
_HISTOGRAMS = {
    REQUEST_LATENCY: _MICROSECONDS,
    RUNTIME_LATENCY: _MICROSECONDS,
    WARMUP_LATENCY: _MICROSECONDS,
    QUEUING_LATENCY: _exponential(100, 1.2, 52),  # to about a second
    EXAMPLE_COUNTS: _exponential(1, 2, 15),
    BATCH_SIZE: _exponential(1, 2, 15),
}
_COUNTERS = (REQUEST_COUNT, EXAMPLE_COUNT_TOTAL, LOAD_ATTEMPTS, LOAD_LATENCY)


class Metrics:
    """Counters and histograms by label values. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[tuple, int]] = {name: {} for name in _COUNTERS}
        self._buckets: dict[str, dict[tuple, list[int]]] = {name: {} for name in _HISTOGRAMS}
        self._sums: dict[tuple, float] = {}

    def count(self, metric: str, by: int = 1, **labels: str) -> None:
        point = tuple(labels.items())
        with self._lock:
            points = self._counts[metric]
            points[point] = points.get(point, 0) + by

    def observe(self, metric: str, value: float, **labels: str) -> None:
        """Add to a histogram; latencies are in microseconds."""
        limits = _HISTOGRAMS[metric]
        point = tuple(labels.items())
        with self._lock:
            buckets = self._buckets[metric].setdefault(point, [0] * (len(limits) + 1))
            buckets[bisect_left(limits, value)] += 1
            self._sums[metric, point] = self._sums.get((metric, point), 0) + value

    def page(self) -> str:
        """Return the metrics in Prometheus' text format."""
        lines = []
        with self._lock:
            for metric, points in sorted(self._counts.items()):
                name = metric.replace("/", ":")
                lines.append(f"# TYPE {name} counter")
                lines += [f"{name}{{{_labels(point)}}} {count}" for point, count in points.items()]
            for metric, histograms in sorted(self._buckets.items()):
                name = metric.replace("/", ":")
                lines.append(f"# TYPE {name} histogram")
                limits = [f"{limit:g}" for limit in _HISTOGRAMS[metric]] + ["+Inf"]
                for point, buckets in histograms.items():
                    total = 0
                    for limit, count in zip(limits, buckets, strict=True):
                        total += count
                        lines.append(f"{name}_bucket{{{_labels((*point, ('le', limit)))}}} {total}")
                    lines.append(f"{name}_sum{{{_labels(point)}}} {self._sums[metric, point]:g}")
                    lines.append(f"{name}_count{{{_labels(point)}}} {total}")
        return "\n".join(lines) + "\n"


def _labels(point: Iterable[tuple[str, str]]) -> str:
    def escape(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return ",".join(f'{name}="{escape(value)}"' for name, value in point)
