"""Nights of the same rows and different deliveries, through the real pipeline: each is judged by what came for it."""

import pandas as pd
import pytest

from nightly.cli import night as nights
from nightly.records.labels import Labels
from nightly.records.night import GateResult, SnapshotRef
from tests.support.judged_nights import days_of, source_rows

pytestmark = [pytest.mark.integration, pytest.mark.slow]

AS_OF = "2015-05-01"


@pytest.fixture(scope="module")
def trips():
    rows = source_rows("taxi")
    return rows[days_of(rows).between("2014-05-01", AS_OF, inclusive="left")]


def judged(paths, body):
    """A night's snapshot, and what its data gate found."""
    before = set((paths.nights / "taxi").glob("*"))
    nights.main(["taxi", "--as-of", AS_OF, "--source", str(body), "--until", "data_gate"])
    (folder,) = set((paths.nights / "taxi").glob("*")) - before
    return SnapshotRef.load(folder / "snapshot.json"), GateResult.load(folder / "data_gate.json")


def written(folder, name, rows):
    rows.to_csv(folder / name, index=False)
    return folder / name


@pytest.mark.parametrize("duplicates_first", [True, False])
def test_duplicates_hold_the_night_that_they_came_for_and_no_other(paths, trips, tmp_path, duplicates_first):
    clean = written(tmp_path, "clean.csv", trips)
    doubled = written(tmp_path, "doubled.csv", pd.concat([trips, trips.sample(frac=0.125, random_state=0)]))
    bodies = [doubled, clean] if duplicates_first else [clean, doubled]
    found = {body: judged(paths, body) for body in bodies}
    assert found[clean][0].snapshot_id == found[doubled][0].snapshot_id
    assert found[clean][1].passed, found[clean][1].held_for
    (reason,) = found[doubled][1].held_for
    assert (reason.check, round(reason.figure, 2)) == ("max_duplicate_share", 0.11)
    labels = [Labels.load(path) for path in (paths.nights / "taxi").glob("*/labels.json")]
    assert len(labels) == 2, "a night that is held records its labels, too"
    assert all(side.now.rows == side.rows and 0.1 < side.now.share("positive") < 0.5 for side in labels)


def test_a_truncated_delivery_holds_its_night_and_the_whole_one_goes_on(paths, trips, tmp_path):
    whole = written(tmp_path, "trips.csv", trips).read_text()
    body = tmp_path / "cut.csv"
    body.write_text(whole[:-40])
    _, gate = judged(paths, body)
    (reason,) = gate.held_for
    assert reason.check == "truncated"
    assert f"{body} is truncated: its last row has " in reason.message
    body.write_text(whole.removesuffix("\n"))
    assert judged(paths, body)[1].passed


def test_a_window_without_rows_says_where_the_rows_are(paths, capsys):
    assert nights.main(["taxi", "--as-of", "2012-01-01"]) == 3
    said = " ".join(capsys.readouterr().out.split())  # the report wraps its lines
    assert "NO_DATA: the source has no rows from 2011-01-01 to 2012-01-01" in said
    assert "(its 15,002 rows are from 2013-01-01 " in said and " to 2016-12-30 16:45 UTC)" in said
