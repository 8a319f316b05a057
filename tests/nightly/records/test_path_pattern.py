"""The paths of files sources."""

import datetime as dt
import re

import pytest

from nightly.records.path_pattern import PathPattern, glob_regex
from nightly.records.source_config import FilesSource

START, END = dt.datetime(2016, 2, 28, 22, 30, tzinfo=dt.UTC), dt.datetime(2016, 3, 1, 0, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("{date:%Y-%m-%d}.csv", ["2016-02-28.csv", "2016-02-29.csv"]),
        ("{date:%Y}/{date:%m}/{date:%d}", ["2016/02/28", "2016/02/29"]),
        ("{date:%Y/%j}", ["2016/059", "2016/060"]),
        ("{date:%Y%m}.csv", ["201602.csv"]),
        ("{date:%y-%b}", ["16-Feb"]),
        ("{date:%Y}/*.csv", ["2016/*.csv"]),
        ("no date.csv", ["no date.csv"]),
    ],
)
def test_a_path_stands_for_the_dates_of_the_window(text, paths):
    assert list(PathPattern(text).expand(START, END)) == paths


def test_hours_and_when_a_date_ends():
    hours = PathPattern("{date:%Y-%m-%dT%H}").expand(START, END)
    assert (len(hours), *list(hours)[:1], *list(hours)[-1:]) == (26, "2016-02-28T22", "2016-02-29T23")
    assert list(hours.values())[-1] == END
    assert list(PathPattern("{date:%Y-%m}").expand(START, END).values()) == [END]
    west = START.astimezone(dt.timezone(dt.timedelta(hours=-5)))
    assert next(iter(PathPattern("{date:%H %d %Y %m}").expand(west, END))) == "22 28 2016 02"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("s3://b/{date:%Y-%d}.csv", "a gap between its year and its smallest part"),
        ("s3://b/{date:%m-%d}.csv", "has no year"),
        ("s3://b/{date:%Y-%m-%d %H:%M}.csv", "has %M; valid are"),
        ("s3://b/{date}.csv", "has no format"),
        ("s3://b/{date:%Y.csv", "is not closed"),
        ("{date:plain}.csv", "has no year"),
        ("sftp://host/a.csv", "sftp:// cannot be read.*mount"),
        ("s4://b/a.csv", "did you mean 's3'"),
        ("gs:///a.csv", "names no bucket"),
        ("https://me:secret@host/a.csv", "https:// address has a user or password; put them into a connection"),
    ],
)
def test_a_path_that_is_not_valid_is_refused_with_the_config(path, words):
    with pytest.raises(ValueError, match=words):
        FilesSource(path=path)


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("s3://b/trips", "s3://b/trips"),
        ("s3://b/trips/*.csv", "s3://b/trips"),
        ("s3://b/t/day={date:%Y-%m-%d}/**", "s3://b/t"),
        ("https://host/a?x=[1]&day={date:%Y-%m-%d}", "https://host"),
        ("/data/x[1].csv", "/data"),
    ],
)
def test_the_folder_of_all_files(text, root):
    assert PathPattern(text).root == root


@pytest.mark.parametrize(
    ("glob", "matching", "others"),
    [
        ("a/*.csv", ["a/b.csv", "a/.csv"], ["a/b/c.csv", "a/bXcsv"]),
        ("a/**/*.csv", ["a/b.csv", "a/b/c/d.csv"], ["b/a.csv"]),
        ("a/**", ["a/b", "a/b/c"], ["b"]),
        ("a?[b-d][!e].csv", ["axcf.csv"], ["a/cf.csv", "axce.csv", "axaf.csv"]),
        ("a[b", ["a[b"], ["ab"]),
        ("a+(b).{x}", ["a+(b).{x}"], ["aab.x"]),
    ],
)
def test_globs(glob, matching, others):
    regex = re.compile(glob_regex(glob))
    assert [text for text in [*matching, *others] if regex.fullmatch(text)] == matching
