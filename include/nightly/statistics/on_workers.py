"""What Beam's workers do with statistics. Imports neither TFX nor TFDV, which would cost each of them seconds."""

from pathlib import Path

from tensorflow_metadata.proto.v0 import statistics_pb2

from nightly.state.workers import WorkerState


def write_statistics(statistics: statistics_pb2.DatasetFeatureStatisticsList, path: str, state: WorkerState) -> None:
    """Write the statistics as TFDV does, for the driver to collect."""
    with state.writing(Path(path)) as part:
        part.write_bytes(statistics.SerializeToString())
