"""Statistics of a data set: TFDV's, in this process; and the files that hold them."""

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
    """TFDV's statistics of a data set of any size, for tfdv.visualize_statistics and all that takes them.

    :param data: CSV, TFRecord of tf.Example or Parquet: a file, a folder, a quoted glob; `snapshot:MODEL/ID` or
        `snapshot:MODEL/latest`; or statistics that were saved (.pb, .pbtxt), which are read
    :param model: read it as this model's nights do: its column names and types, without the columns that it ignores
        and the rows that have no label
    :param schema: columns of CSV and Parquet get these types, where they hold all values
    :param max_rejected_share: of rows that cannot be read; 0, or the model's
    :raises DataError: it cannot be read; the message says which file and row
    """
    if str(data).endswith(SUFFIXES):
        return load_statistics(data)
    opened = open_data(data, model=model, schema=schema, max_rejected_share=max_rejected_share)
    try:
        return statistics_of(opened.batches())
    except (ValueError, TypeError) as error:  # what TFDV raises where two batches disagree on a feature
        raise DataError(f"{data} cannot be measured: {error}") from error


def load_statistics(path: str | Path) -> Statistics:
    """Statistics in a binary (.pb) or text (.pbtxt) file, e.g. FeatureStats.pb of the pipeline. Raises DataError."""
    try:
        with open_file(str(path)) as file:
            saved = file.read()
        found = text_format.Parse(saved, Statistics()) if str(path).endswith(TEXT) else Statistics.FromString(saved)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise DataError(f"{path} holds no statistics: {error}") from error
    if not found.datasets:
        raise DataError(f"{path} holds no statistics")
    return found


def save_statistics(found: Statistics, path: str | Path) -> None:
    """Write statistics for `load_statistics`, or for tfdv.load_stats_binary and load_stats_text. Raises DataError."""
    if not str(path).endswith(SUFFIXES):
        raise DataError(f"{path}: name it {Path(path).stem}{BINARY} (binary) or {Path(path).stem}{TEXT} (text)")
    text = str(path).endswith(TEXT)
    write_atomically(Path(path), text_format.MessageToString(found).encode() if text else found.SerializeToString())
