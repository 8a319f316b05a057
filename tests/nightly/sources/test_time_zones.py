"""No source is asked for dates after a night's as-of time, whatever the zone of its times."""

import datetime as dt

import pytest

import include.models
from nightly.records.data_config import Data
from nightly.records.source_config import FilesSource, PythonSource
from nightly.sources import fetch

FUNCTION = """
import pyarrow as pa

def rows(window, connection):
    yield pa.record_batch({"day": [f"{window.start:%Y-%m-%d}"], "a": [1]})
"""


def utc(text):
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def night(source, zone, as_of, folder, **keys):
    data = Data(id_columns=[], time_column="day", time_zone=zone, label={"column": "a", "positive": ["1"]})
    end = utc(as_of)
    times = {"window_start": end - dt.timedelta(days=1), "window_end": end, "as_of": end}
    return fetch(source, **times, folder=folder / "downloads", data=data, **keys)


@pytest.fixture
def lake(tmp_path):
    """A folder with a file for each day, and one for each hour, of March and April of 2016 and more."""
    for number in range(300):
        moment = utc("2016-03-01") + dt.timedelta(days=number)
        (tmp_path / f"{moment:%Y-%m-%d}.csv").write_text("day,a\n")
    for number in range(24 * 60):
        moment = utc("2016-03-01") + dt.timedelta(hours=number)
        (tmp_path / f"{moment:%Y-%m-%dT%H}.csv").write_text("day,a\n")
    return tmp_path


# Clocks changed on 2016-03-13 and 2016-11-06 in Chicago, and on 2016-04-03 in Auckland.
@pytest.mark.parametrize(
    ("zone", "as_of", "last"),
    [
        ("UTC", "2016-03-04T00:00", "2016-03-03"),
        ("America/Chicago", "2016-03-04T03:00", "2016-03-04"),
        ("America/Chicago", "2016-03-13T05:30", "2016-03-13"),
        ("America/Chicago", "2016-11-07T00:00", "2016-11-06"),
        ("Pacific/Auckland", "2016-03-04T03:00", "2016-03-04"),
        ("Pacific/Auckland", "2016-03-04T11:00", "2016-03-04"),  # its midnight: the next day has no rows yet
        ("Pacific/Auckland", "2016-03-04T11:30", "2016-03-05"),
        ("Pacific/Auckland", "2016-04-03T11:30", "2016-04-03"),  # 23:30, an hour later than the day before
        ("Pacific/Auckland", "2016-04-03T12:30", "2016-04-04"),
    ],
)
@pytest.mark.parametrize("extra_days", [0, 3])
def test_the_last_file_is_of_the_day_of_the_as_of_time(lake, zone, as_of, last, extra_days):
    source = FilesSource(path=f"{lake}/{{date:%Y-%m-%d}}.csv", extra_days=extra_days)
    files = night(source, zone, as_of, lake).files
    assert files[-1].path == f"{lake}/{last}.csv"


@pytest.mark.parametrize(
    ("zone", "as_of", "last"),
    [
        ("America/Chicago", "2016-03-13T09:00", "2016-03-13T08"),
        ("Pacific/Auckland", "2016-03-04T03:00", "2016-03-04T15"),
        (
            "Pacific/Auckland",
            "2016-04-02T14:00",
            "2016-04-03T02",
        ),  # this hour comes again
        ("Pacific/Auckland", "2016-04-02T15:00", "2016-04-03T02"),
    ],
)
def test_hours_as_the_clocks_of_the_zone_show_them(lake, zone, as_of, last):
    files = night(FilesSource(path=f"{lake}/{{date:%Y-%m-%dT%H}}.csv"), zone, as_of, lake).files
    assert files[-1].path == f"{lake}/{last}.csv"


@pytest.mark.parametrize(
    ("zone", "last"), [("America/Chicago", "2016-03-04"), ("Pacific/Auckland", "2016-03-05"), ("UTC", "2016-03-04")]
)
def test_no_slice_is_wholly_in_the_future(tmp_path, monkeypatch, zone, last):
    monkeypatch.setattr(include.models, "__path__", [*include.models.__path__, str(tmp_path)])
    folder = tmp_path / f"zone_{zone.rpartition('/')[2]}"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "source.py").write_text(FUNCTION)
    download = night(PythonSource(), zone, "2016-03-04T12:00", tmp_path, model_folder=folder)
    assert f" {last} to {last}, " in download.files[-1].origin
