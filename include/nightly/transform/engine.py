"""TF Transform in this process: analyze a split, then transform any split, in bounded memory."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import pyarrow as pa
import tensorflow as tf
import tensorflow_transform as tft
from tensorflow_transform import impl_helper
from tensorflow_transform.saved.saved_transform_io_v2 import SavedModelLoader
from tensorflow_transform.tf_metadata import metadata_io
from tfx_bsl.coders import example_coder
from tfx_bsl.tfxio import dataset_options, tf_example_record

from nightly.examples.reading import file_records, records
from nightly.examples.tfrecord import CHUNK_BYTES, framed
from nightly.state.workers import WorkerState
from nightly.transform.analysis import PreprocessingFn, Tensors, analyze

BATCH_ROWS = 8192
SAMPLED = 100  # records that tell how large they are
LAYOUT = tft.TFTransformOutput  # its folder and file names


class Source:
    """Files of tf.Example, read by a schema as batches of inputs of a preprocessing_fn.

    :param path: a split's folder, or one of its files
    """

    def __init__(self, path: str, metadata: tft.DatasetMetadata):
        self._path = Path(path)
        pattern = path if self._path.is_file() else str(self._path / "*")
        self._files = tf_example_record.TFExampleRecord(
            pattern, schema=metadata.schema, telemetry_descriptors=["nightly"]
        )
        self.type_specs: dict[str, tf.TypeSpec] = self._files.TensorAdapter().OriginalTypeSpecs()

    def batches(self) -> Iterator[Tensors]:
        """Return every row in order, in batches of at most BATCH_ROWS, and fewer if they are large.

        The next batch is parsed while one is in use.
        """
        sample = file_records(self._path) if self._path.is_file() else records(str(self._path))
        sizes = [len(record) for record in islice(sample, SAMPLED)]
        rows = max(1, min(BATCH_ROWS, CHUNK_BYTES * len(sizes) // max(sum(sizes), 1))) if sizes else BATCH_ROWS
        options = dataset_options.TensorFlowDatasetOptions(batch_size=rows, num_epochs=1, shuffle=False)
        return iter(self._files.TensorFlowDataset(options))


def write_transform_graph(
    preprocessing_fn: PreprocessingFn, split_uri: str, metadata: tft.DatasetMetadata, output: Path
) -> None:
    """Analyze a split, and write the transform graph to `output`, for tft.TFTransformOutput. Raises as `analyze`."""
    source = Source(split_uri, metadata)
    folder = output / ".analysis"  # on the same file system, so that the results can be renamed
    folder.mkdir(parents=True)
    saved_model, assets = analyze(preprocessing_fn, source.type_specs, source.batches, folder)
    (saved_model / impl_helper.METADATA_DIR_NAME).rename(output / LAYOUT.TRANSFORMED_METADATA_DIR)
    saved_model.rename(output / LAYOUT.TRANSFORM_FN_DIR)
    if assets:
        (output / LAYOUT.TRANSFORMED_METADATA_DIR / LAYOUT.ASSET_MAP).write_text(json.dumps(assets))
    metadata_io.write_metadata(metadata, str(output / LAYOUT.RAW_METADATA_DIR))
    shutil.rmtree(folder)


class Transformer:
    """A transform graph on disk, applied to splits."""

    def __init__(self, transform_graph: Path):
        self._raw = metadata_io.read_metadata(str(transform_graph / LAYOUT.RAW_METADATA_DIR))
        schema = metadata_io.read_metadata(str(transform_graph / LAYOUT.TRANSFORMED_METADATA_DIR)).schema
        self._converter = impl_helper.make_tensor_to_arrow_converter(schema)
        self._encoder = example_coder.RecordBatchToExamplesEncoder(schema)
        self._model = SavedModelLoader(str(transform_graph / LAYOUT.TRANSFORM_FN_DIR))

    def write(self, source: str, path: Path) -> int:
        """Write the transformed rows of a split, or of a file, to the TFRecord file `path`; return how many."""
        rows = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for batch in Source(source, self._raw).batches():
                outputs = self._model.apply_transform_model(batch)
                examples = self._encoder.encode(self._converter.convert(outputs))
                file.write(framed(pa.array(examples, pa.large_binary())))
                rows += len(examples)
        return rows


@dataclass(frozen=True)
class WorkersTransform:
    """Applies a published transform graph on Beam's workers: a file for each file of the examples."""

    transform_graph: str
    examples: str
    output: str  # path of the files, without -00000-of-00001
    count: int
    state: WorkerState = field(default_factory=WorkerState)

    @cached_property
    def transformer(self) -> Transformer:
        self.state.fetch(self.transform_graph)
        return Transformer(Path(self.transform_graph))

    def write(self, shard: tuple[int, str]) -> int:
        """Write the file `number` of the output, and return its rows."""
        number, file = shard
        self.state.fetch(self.examples)
        with self.state.writing(Path(f"{self.output}-{number:05d}-of-{self.count:05d}")) as part:
            return self.transformer.write(file, part)
