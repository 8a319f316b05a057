"""Examples whose eval split is the newest days: the same in this process and on Beam, and said in the log."""

import datetime as dt
import logging

import pandas as pd
import pytest

from nightly.examples.days import SplitError
from tests.nightly.tfx.test_examples_and_statistics import read, run_example_gen
from tests.support.data import TAXI
from tests.support.snapshots import write_snapshot

ON_BEAM = '["--runner=DirectRunner"]'


@pytest.fixture(scope="module")
def trips():
    """The trips of a month, without a label on its last day."""
    rows = pd.read_csv(TAXI)
    rows["time"] = pd.to_datetime(rows["trip_start_timestamp"], unit="s", utc=True).astype("datetime64[us, UTC]")
    rows = rows[(rows["time"] >= "2015-05-01") & (rows["time"] < "2015-06-01")]
    return rows.assign(big_tipper=rows["big_tipper"].where(rows["time"] < "2015-05-31"))


@pytest.fixture(scope="module")
def snapshot(trips, tmp_path_factory):
    return write_snapshot(tmp_path_factory.mktemp("snapshot"), trips)


def moments(folder, split):
    return sorted(example.features.feature["time"].int64_list.value[0] for example in read(folder, split))


@pytest.mark.parametrize("beam_args", ["", pytest.param(ON_BEAM, marks=pytest.mark.slow)])
def test_the_newest_days_are_held_out_on_either_engine(beam_args, trips, snapshot, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "nightly"):
        run_example_gen(snapshot, tmp_path, newest_by="time", beam_args=beam_args)
    labelled = trips[trips["big_tipper"].notna()]
    by_day = labelled.groupby(labelled["time"].dt.floor("D")).size()[::-1].cumsum()
    first = by_day[by_day >= 0.2 * len(labelled)].index[0]
    seconds = labelled["time"].astype("int64") // 1_000_000
    assert moments(tmp_path, "eval") == sorted(seconds[labelled["time"] >= first])
    assert moments(tmp_path, "train") == sorted(seconds[labelled["time"] < first])
    days = labelled["time"][labelled["time"] >= first].dt.date.nunique()
    assert f"held out are the newest {days} days with a label, {first.date()} to 2015-05-30" in caplog.text


def test_days_whose_labels_are_in_no_class_are_not_the_newest_with_a_label(trips, tmp_path):
    days = trips["time"].dt.date.astype(str)
    rows = trips.assign(big_tipper=["2" if day >= "2015-05-20" else "1" for day in days])
    run_example_gen(write_snapshot(tmp_path / "s", rows), tmp_path / "out", newest_by="time", classes='["0", "1"]')
    first = dt.datetime.fromtimestamp(moments(tmp_path / "out", "eval")[0], dt.UTC)
    assert first < dt.datetime(2015, 5, 20, tzinfo=dt.UTC)


def test_a_single_labelled_day_cannot_be_divided(trips, tmp_path):
    one_day = trips[trips["time"].dt.date.astype(str) == "2015-05-20"]
    with pytest.raises(SplitError, match="all of 2015-05-20 and later, and none is older, to train on: lengthen"):
        run_example_gen(write_snapshot(tmp_path / "snapshot", one_day), tmp_path / "out", newest_by="time")


def test_without_its_label_there_are_no_examples_and_no_crash(trips, tmp_path):
    run_example_gen(
        write_snapshot(tmp_path / "s", trips.drop(columns="big_tipper")), tmp_path / "out", newest_by="time"
    )
    assert read(tmp_path / "out", "train") == read(tmp_path / "out", "eval") == []
