"""Findings about lists, images and vectors: planted faults in real digits, judged against an accepted night."""

import functools
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightly.checks.schema_proposal import propose
from nightly.records.config import Bound, DataGate, ModelConfig, ModelGate
from nightly.records.data_config import Data
from nightly.records.label_config import BinaryLabel
from nightly.records.source_config import FilesSource
from nightly.schemas.curated import parse_schema
from nightly.schemas.features import column_type
from nightly.snapshots.ingest import ingest
from nightly.snapshots.store import SnapshotStore
from nightly.sources import fetch
from nightly.statistics.measure import statistics_of
from tests.support import judged_nights
from tests.support.digits import SCHEMA, digits
from tests.support.nights import a_night, utc

SIZED = {"photo": "image", "story": "text", "strokes": "list", "bright": "list"}
DAY = 'feature { name: "day" type: INT }\n'
END = utc(2016, 2, 1)


@pytest.fixture
def night(tmp_path, monkeypatch):
    """Judge digits with a fault planted in each row, against the other half of them without any."""
    (tmp_path / "schema.pbtxt").write_text(SCHEMA + DAY)
    rows = random.Random(0).sample(digits(1200), 1200)
    monkeypatch.setattr(
        judged_nights, "statistics_of", functools.partial(statistics_of, sized=SIZED | {"extra": "bytes"})
    )

    def judged(rows, controls):
        folder = tmp_path / f"night {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / "body.parquet")
        config = ModelConfig(
            name="digits",
            description="",
            source=FilesSource(path=str(folder / "body.parquet")),
            data=Data(id_columns=["id"], time_column="day", label=BinaryLabel(column="even", positive=["1"])),
            data_gate=DataGate(min_rows=100, max_age_days=30, min_rows_for_distance=100, controls={"last_accepted": 1}),
            model_gate=ModelGate(metrics={"auc": Bound(floor=0.5)}),
        )
        start = utc(2016, 1, 1)
        given = a_night(model="taxi", run_id="night", as_of=END, window_start=start, release=False)
        download = fetch(config.source, window_start=start, window_end=END, folder=folder)
        store, schema = SnapshotStore(folder / "snapshots", "digits"), tmp_path / "schema.pbtxt"
        ref = ingest(config, given, download, store, folder=folder, schema=schema)
        return judged_nights.measure(config, given, ref, controls, folder / "none", schema)

    control = judged(rows[600:], {})
    return lambda fault: judged([fault(dict(row)) for row in rows[:600]], {"last_accepted": control})


def test_digits_without_a_fault_pass(night):
    assert night(lambda row: row).held == set()


def test_lists_that_are_cut_short_are_found_by_their_lengths(night):
    judged = night(lambda row: row | {"strokes": row["strokes"][:5]})
    assert ("max_missing_change", "strokes") in judged.held
    message = judged.reason("max_missing_change", "strokes").message
    assert message.startswith("0.0% of the examples have ")
    assert " values of strokes or more" in message


def test_new_values_in_lists_are_named_with_rows(night):
    judged = night(lambda row: row | {"strokes": [word.replace("thick", "bold") for word in row["strokes"]]})
    reason = judged.reason("max_unseen_share", "strokes")
    assert reason.held
    assert "'bold at " in reason.message
    assert reason.rows[0].startswith("rows-")


def test_images_of_another_size_drift_and_the_finding_names_their_classes(night):
    judged = night(lambda row: row | {"photo": row["photo"] + bytes(2000)})
    reason = judged.reason("drift", "photo")
    assert reason.held
    assert "png, 2 to 4 KiB: " in reason.message
    assert reason.rows == []


def test_a_new_column_of_lists_or_of_images_is_proposed_as_such(night, tmp_path):
    for value, kind in (([1, 2], "list<int64>"), (digits()[0]["photo"], "binary")):
        judged = night(lambda row, value=value: row | {"extra": value})
        proposal = propose(judged.evidence, judged.statistics, (tmp_path / "schema.pbtxt").read_text())
        (change,) = proposal.changes
        assert (change.feature, change.kind) == ("extra", "new column")
        added = parse_schema(proposal.text, where="proposal").feature[-1]
        assert column_type(added) == kind
        assert proposal.lifts, proposal.left


def test_fewer_rows_with_a_list_are_proposed_as_a_lower_presence(night, tmp_path):
    judged = night(lambda row: row | {"bright": None if row["id"] % 3 else row["bright"]})
    assert ("schema", "bright") in judged.held
    (change,) = propose(judged.evidence, judged.statistics, (tmp_path / "schema.pbtxt").read_text()).changes
    assert change.kind == "presence"
    assert 0.6 < change.values[0].share < 0.7
