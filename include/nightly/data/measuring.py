"""TFDV's statistics of a data set, computed in this process, and their files."""

from pathlib import Path

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from nightly.data.errors import DataError
from nightly.data.files import open_file
from nightly.data.reading import open_data
from nightly.io.atomic import write_atomically
from nightly.statistics.measure import statistics_of

Statistics = statistics_pb2.DatasetFeatureStatisticsList
BINARY, TEXT = ".pb", ".pbtxt"
SUFFIXES = (BINARY, TEXT)


def statistics(
    data: str | Path,
    *,
    model: str | None = None,
    schema: schema_pb2.Schema | None = None,
    max_rejected_share: float | None = None,
) -> Statistics:
    """Return TFDV's statistics of a data set of any size, e.g. for tfdv.visualize_statistics.

    :param data: CSV, TFRecord of tf.Example or Parquet: a file, a folder, a quoted glob; `snapshot:MODEL/ID` or
        `snapshot:MODEL/latest`; or saved statistics (.pb, .pbtxt), which are loaded
    :param model: read the data as this model's nights do: its column names and types, without ignored columns and
        without unlabelled rows
    :param schema: the types of CSV and Parquet columns; a type that does not hold all values is ignored
    :param max_rejected_share: the largest share of unreadable rows; by default the model's, else 0
    :raises DataError: the data cannot be read; the message names the file and the row
    """
    if str(data).endswith(SUFFIXES):
        return load_statistics(data)
    opened = open_data(data, model=model, schema=schema, max_rejected_share=max_rejected_share)
    try:
        return statistics_of(opened.batches(), opened.sized)
    except (ValueError, TypeError) as error:  # TFDV raises these if two batches disagree on a feature
        raise DataError(f"{data} cannot be measured: {error}") from error


def load_statistics(path: str | Path) -> Statistics:
    """Load statistics from a binary (.pb) or text (.pbtxt) file, e.g. the pipeline's FeatureStats.pb.

    Raises DataError.
    """
    try:
        with open_file(str(path)) as file:
            saved = file.read()
        loaded = text_format.Parse(saved, Statistics()) if str(path).endswith(TEXT) else Statistics.FromString(saved)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise DataError(f"{path} holds no statistics: {error}") from error
    if not loaded.datasets:
        raise DataError(f"{path} holds no statistics")
    return loaded


def save_statistics(measured: Statistics, path: str | Path) -> None:
    """Write statistics for `load_statistics`, or for tfdv.load_stats_binary and load_stats_text.

    Raises DataError for another suffix than .pb or .pbtxt.
    """
    if not str(path).endswith(SUFFIXES):
        raise DataError(f"{path}: name it {Path(path).stem}{BINARY} (binary) or {Path(path).stem}{TEXT} (text)")
    text = str(path).endswith(TEXT)
    data = text_format.MessageToString(measured).encode() if text else measured.SerializeToString()
    write_atomically(Path(path), data)
