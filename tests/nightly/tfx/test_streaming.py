"""More rows than memory: what a step holds is a bounded part of the data, measured by the operating system."""

import random
import resource

import pyarrow as pa
import pytest
from tfx.types import standard_artifacts

from benchmarks.common import forked
from nightly.examples import encoding
from nightly.snapshots import builder
from nightly.snapshots.builder import SnapshotBuilder
from nightly.snapshots.store import SnapshotStore
from nightly.statistics import value_counts
from nightly.tfx.components.examples import SnapshotExampleGen
from nightly.tfx.components.statistics import InProcessStatisticsGen
from tests.support.nights import utc
from tests.support.snapshots import DETAILS

pytestmark = pytest.mark.slow

ROWS, BATCH, TEXT = 400_000, 5000, 1000  # 400 MB, of texts that are all different
AT_MOST_MB = 180


@pytest.fixture
def small(monkeypatch):
    """What is held at a time, as small beside these rows as it is beside many more."""
    monkeypatch.setattr(builder, "SHARD_ROWS", 20_000)
    monkeypatch.setattr(builder, "ROW_GROUP_ROWS", 5000)
    monkeypatch.setattr(encoding, "BATCH_ROWS", 1000)
    monkeypatch.setattr(value_counts, "MAX_BYTES", 4 << 20)


def batches():
    draw = random.Random(0)
    for first in range(0, ROWS, BATCH):
        texts = [draw.randbytes(TEXT // 2).hex() for _ in range(BATCH)]
        days = [utc(2016, 1, draw.randint(1, 28)) for _ in range(BATCH)]
        columns = [pa.array(days, pa.timestamp("us", "UTC")), pa.array(range(first, first + BATCH)), pa.array(texts)]
        yield pa.RecordBatch.from_arrays(
            [*columns, pa.array([n % 2 for n in range(BATCH)])], ["day", "id", "text", "label"]
        )


def own_peak_mb():
    """This process's largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def grown(function):
    """What the function gives in a fork, and by how many MB that process grew."""

    def measured():
        before = own_peak_mb()
        return function(), own_peak_mb() - before

    return forked(measured).value


def test_no_step_up_to_the_statistics_holds_all_rows(tmp_path, small):
    def snapshot():
        columns = {"day": "timestamp", "id": "int64", "text": "string", "label": "int64"}
        store = SnapshotStore(tmp_path, "test")
        with SnapshotBuilder(store, columns, time_column="day", id_columns=["id"]) as builder:
            for batch in batches():
                builder.add(batch)
            manifest, _ = builder.finish(label="label", **DETAILS)
        assert manifest.rows == ROWS and len(manifest.files) == ROWS // 20_000
        return str(store.path(manifest.snapshot_id))

    examples, statistics = standard_artifacts.Examples(), standard_artifacts.ExampleStatistics()
    examples.uri, statistics.uri = str(tmp_path / "examples"), str(tmp_path / "statistics")
    examples.split_names = '["train", "eval"]'

    def write_examples():
        parameters = {"columns": "id\ntext\nlabel", "id_columns": "id", "label": "label", "eval_percent": 20}
        SnapshotExampleGen.EXECUTOR_SPEC.executor_class().Do(
            {}, {"examples": [examples]}, {"snapshot": folder, "beam_args": "", **parameters}
        )

    def write_statistics():
        InProcessStatisticsGen.EXECUTOR_SPEC.executor_class().Do(
            {"examples": [examples]}, {"statistics": [statistics]}, {"beam_args": ""}
        )

    folder, of_snapshot = grown(snapshot)
    _, of_examples = grown(write_examples)
    _, of_statistics = grown(write_statistics)
    (records,) = (tmp_path / "examples/Split-train").iterdir()
    assert records.stat().st_size > 300 * 2**20
    assert max(of_snapshot, of_examples, of_statistics) < AT_MOST_MB, (of_snapshot, of_examples, of_statistics)
