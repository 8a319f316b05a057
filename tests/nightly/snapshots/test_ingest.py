"""From bodies to typed rows of the window, and what becomes of the bad ones."""

import gzip
import zipfile

import numpy as np
import pyarrow as pa
import pytest

from nightly.snapshots.errors import (
    ColumnError,
    SnapshotError,
    TooManyRejectedError,
    TruncatedBodyError,
    UnreadableBodyError,
)
from nightly.snapshots.parsing import parse_numbers, parse_times
from tests.support.nights import utc

HEADER = "Day,Trips,Fare,City,Note\n"
GOOD = HEADER + "2016-01-02,3,1.5,A,x\n2016-01-01,2,.5,B,\n"


def reasons(bench):
    return [(row["reason"], row["column"], row["row"]) for row in bench.rejected()]


def test_rows_are_typed_named_and_in_order_of_time(bench):
    bench.body("a.csv", GOOD)
    ref = bench.ingest()
    assert bench.rows(ref, "day", "trips", "fare", "city", "note") == [
        (utc(2016, 1, 1), 2, 0.5, "B", None),
        (utc(2016, 1, 2), 3, 1.5, "A", "x"),
    ]
    manifest = bench.store.get(ref.snapshot_id)
    assert manifest.columns == {
        "day": "timestamp",
        "trips": "int64",
        "fare": "float",
        "city": "string",
        "note": "string",
    }
    assert (manifest.rows, manifest.first_row, manifest.last_row) == (2, utc(2016, 1, 1), utc(2016, 1, 2))
    assert manifest.label_counts == {"A": 1, "B": 1}
    assert manifest.code_version == "abc"
    assert not bench.rejected_path.exists()


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.removesuffix("\n"),
        GOOD + "\n\n",
        GOOD.replace("x", '"x"'),
        "\n" + GOOD,
    ],
    ids=["byte order mark", "CRLF", "no last newline", "blank lines", "quotes", "blank first line"],
)
def test_the_same_rows_written_otherwise_are_the_same_snapshot(bench, content):
    bench.body("a.csv", GOOD)
    first = bench.ingest()
    bench.body("a.csv", content)
    again = bench.ingest()
    assert (again.snapshot_id, again.created) == (first.snapshot_id, False)


def test_gzip_and_zip_are_read(bench):
    first, second = GOOD.splitlines()[1:]
    bench.body("a.csv.gz", gzip.compress((HEADER + first).encode()))
    with zipfile.ZipFile(bench.bodies / "b.zip", "w") as archive:
        archive.writestr("inside.csv", HEADER + second)
        archive.writestr("readme.txt", "x")
    zipped = bench.ingest()
    for path in bench.bodies.iterdir():
        path.unlink()
    bench.body("a.csv", GOOD)
    assert bench.ingest().snapshot_id == zipped.snapshot_id


def test_newlines_and_commas_in_quotes_belong_to_the_value(bench):
    bench.body("a.csv", HEADER + '2016-01-02,3,1.5,A,"one,\n""two"",\r\n2016-01-05,1,2,3"\n')
    assert bench.rows(bench.ingest(), "note") == [('one,\n"two",\r\n2016-01-05,1,2,3',)]
    assert bench.rejected() == []


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (",day,city", ["index", "day", "city"]),  # as pandas writes it
        ("day,,city", ["day", "column_2", "city"]),
        (" ,day,Index,", ["column_1", "day", "index", "column_4"]),
    ],
)
def test_a_column_without_a_name_is_kept_and_the_night_says_so(bench, header, columns):
    values = {"day": "2016-01-02", "city": "A"}
    path = bench.body("a.csv", f"{header}\n{','.join(values.get(name, '7') for name in columns)}\n")
    ref = bench.ingest()
    assert list(bench.store.get(ref.snapshot_id).columns) == columns
    assert bench.rows(ref, *(name for name in columns if name not in values))[0][0] == "7"
    unnamed = [(n, name) for n, name in enumerate(columns, start=1) if not header.split(",")[n - 1].strip()]
    assert [(column.position, column.column) for column in ref.delivery.unnamed] == unnamed
    assert {column.file for column in ref.delivery.unnamed} == {str(path)}


def test_a_column_without_a_name_can_be_renamed(bench):
    bench.body("a.csv", ",day\n1,2016-01-02\n")
    assert list(bench.store.get(bench.ingest(rename={"": "row"}).snapshot_id).columns) == ["row", "day"]


def test_renaming_and_headers_that_collide(bench):
    bench.body("a.csv", "Day,Consumer disputed?,ZIP code, Sub-product \n2016-01-02,Yes,1,x\n")
    manifest = bench.store.get(bench.ingest(rename={"ZIP code": "postcode"}).snapshot_id)
    assert list(manifest.columns) == ["day", "consumer_disputed", "postcode", "sub_product"]
    bench.body("a.csv", "Day,Fare,fare?\n2016-01-02,1,2\n")
    with pytest.raises(ColumnError, match=r"'fare\?' has the same column name as 'Fare', 'fare'.*data\.rename"):
        bench.ingest()
    bench.body("a.csv", "Day,Fare,Fare\n2016-01-02,1,2\n")
    with pytest.raises(ColumnError, match="'Fare' is there twice"):
        bench.ingest()


@pytest.mark.parametrize(("data", "named"), [({"time_column": "dya"}, "dya"), ({"id_columns": ["trip"]}, "trip")])
def test_a_column_that_is_needed_and_missing(bench, data, named):
    bench.body("a.csv", GOOD)
    with pytest.raises(ColumnError, match=f"no column '{named}'.*did you mean '(day|trips)'"):
        bench.ingest(**data)


def test_no_schema_says_where_it_should_be(bench):
    bench.body("a.csv", GOOD)
    bench.schema.unlink()
    with pytest.raises(SnapshotError, match=r"schema\.pbtxt does not exist"):
        bench.ingest()


def test_the_window_is_half_open_and_late_days_shorten_it(bench):
    days = ["2015-12-31", "2016-01-01", "2016-01-16", "2016-01-17", "2016-01-31", "2016-02-01"]
    bench.body("a.csv", HEADER + "".join(f"{day},1,1,A,\n" for day in days))
    assert [day for (day,) in bench.rows(bench.ingest(), "day")] == [
        utc(2016, 1, 1),
        utc(2016, 1, 16),
        utc(2016, 1, 17),
        utc(2016, 1, 31),
    ]
    assert [day for (day,) in bench.rows(bench.ingest(late_days=15), "day")] == [utc(2016, 1, 1), utc(2016, 1, 16)]
    assert bench.rejected() == []


def test_a_day_belongs_to_the_window_with_its_midnight(bench):
    bench.body("a.csv", HEADER + "".join(f"2016-01-0{n},1,1,A,\n" for n in range(1, 5)))
    ref = bench.ingest(start=utc(2016, 1, 1, 3), end=utc(2016, 1, 3, 3))
    assert [day for (day,) in bench.rows(ref, "day")] == [utc(2016, 1, 2), utc(2016, 1, 3)]


@pytest.mark.parametrize("content", [HEADER, HEADER.strip(), HEADER + "2011-01-01,1,1,A,\n"])
def test_no_row_in_the_window_is_no_snapshot(bench, content):
    bench.body("a.csv", content)
    ref = bench.ingest()
    assert (ref.rows, ref.snapshot_id, ref.path, ref.created) == (0, "", "", False)
    assert bench.store.manifests() == []


@pytest.mark.parametrize(
    ("time_format", "text", "moment"),
    [
        ("%m/%d/%Y", "7/29/2013", utc(2013, 7, 29)),
        ("%m/%d/%Y", "2/30/2016", None),
        ("%m/%d/%Y", "13/1/2016", None),
        ("%m/%d/%Y", "1/1/16", None),
        ("%m/%d/%Y", "1/1/2016x", None),
        ("%m/%d/%Y", "", None),
        ("%Y-%m-%d", "2016-02-30", None),
        ("%Y-%m-%d", "2016-02-29", utc(2016, 2, 29)),
        ("%Y-%m-%d", "2016-02-29 10", None),
        ("%Y-%m-%d %H:%M:%S", "2016-02-29 10:11:12", utc(2016, 2, 29, 10, 11, 12)),
        ("%Y-%m-%d %H:%M:%S.%f", "2016-02-29 10:11:12.5", utc(2016, 2, 29, 10, 11, 12, 500_000)),
        ("%Y-%m-%dT%H:%M:%S%z", "2016-02-29T20:00:00-05:00", utc(2016, 3, 1, 1)),
        ("epoch_s", "1400269500", utc(2014, 5, 16, 19, 45)),
        ("epoch_ms", "1400269500123", utc(2014, 5, 16, 19, 45, 0, 123_000)),
        ("epoch_s", "1400269500.0", utc(2014, 5, 16, 19, 45)),
        ("epoch_s", "99999999999999999", None),
        ("epoch_s", "soon", None),
    ],
)
def test_times(time_format, text, moment):
    assert parse_times(pa.array([text, text]), time_format).to_pylist() == [moment, moment]


@pytest.mark.parametrize(
    ("kind", "text", "number"),
    [
        (pa.int64(), "7", 7),
        (pa.int64(), "+7", 7),
        (pa.int64(), " -7 ", -7),
        (pa.int64(), "7.0", 7),
        (pa.int64(), "9223372036854775807", 2**63 - 1),
        (pa.int64(), "9223372036854775808", None),
        (pa.int64(), "7.5", None),
        (pa.int64(), "1_000", None),
        (pa.int64(), "many", None),
        (pa.float64(), "1e3", 1000.0),
        (pa.float64(), " .5", 0.5),
        (pa.float64(), "1,5", None),
        (pa.float64(), "nan", None),
        (pa.float64(), "inf", None),
        (pa.float64(), "1e999", None),
        (pa.float64(), "1e38", 1e38),
        (pa.float64(), "-1e39", None),  # infinite as float32, which examples have
    ],
)
def test_numbers(kind, text, number):
    values, bad = parse_numbers(pa.array([text, None]), kind)
    assert values.to_pylist() == [number, None]
    assert bad.to_pylist() == [number is None, False]


def test_a_typed_number_that_examples_cannot_hold_is_none():
    values, bad = parse_numbers(pa.array([1e38, 1e39, None]), pa.float64())
    assert values.to_pylist() == [1e38, None, None]
    assert bad.to_pylist() == [False, True, False]


def test_each_kind_of_bad_row_is_kept_aside_with_its_reason(bench):
    content = (
        HEADER.encode()
        + b"2016-01-01,1,1,A,good\n"
        + b"2016-01-01,1,1,A\n"  # row 3
        + b"2016-01-01,1,1,A,x,y\n"  # row 4
        + b"2016-01-02,1,1,caf\xe9,x\n"  # row 5
        + b"Tuesday,1,1,A,x\n"  # row 6
        + b",1,1,A,x\n"  # row 7
        + b"2016-01-01,one,1,A,x\n"  # row 8
        + b"2016-01-01,1,cheap,A,x\n"  # row 9
        + b"2016-01-01,1,caf\xe9\n"  # row 10
        + "2016-01-03,2,2,café,good\n".encode()
    )
    path = bench.body("a.csv", content)
    ref = bench.ingest()
    assert bench.rows(ref, "note", "city") == [("good", "A"), ("good", "café")]
    assert sorted(reasons(bench), key=lambda reason: reason[2]) == [
        ("columns", "", 3),
        ("columns", "", 4),
        ("encoding", "city", 5),
        ("time", "day", 6),
        ("time", "day", 7),
        ("number", "trips", 8),
        ("number", "fare", 9),
        ("columns", "", 10),
    ]
    texts = {row["row"]: (row["file"], row["value"], row["text"]) for row in bench.rejected()}
    assert texts[4] == (str(path), "6 fields instead of 5", "2016-01-01,1,1,A,x,y")
    assert texts[5] == (str(path), r"caf\xe9", r"2016-01-02,1,1,caf\xe9,x")
    assert texts[8] == (str(path), "one", "2016-01-01,one,1,A,x")
    assert texts[10][2] == r"2016-01-01,1,caf\xe9"
    assert ref.delivery.rejected_rows == 8
    assert ref.delivery.rejected[0].model_dump() == {
        "reason": "columns",
        "column": "",
        "rows": 3,
        "example": "4 fields instead of 5",
        "file": str(path),
        "row": 3,
    }


def test_what_an_unclosed_quote_swallows_is_found_and_counted(bench):
    rows = [f"2016-01-0{n},{n},1,A,note {n}\n" for n in range(1, 9)]
    rows[2] = '2016-01-03,3,1,A,"note 3\n'  # closes at the quote of row 7
    rows[6] = '2016-01-07,7,1,A,"note 7"\n'
    bench.body("a.csv", HEADER + "".join(rows))
    ref = bench.ingest()
    good = {n for (n,) in bench.rows(ref, "trips")}
    assert {1, 2, 8} <= good
    assert len(good) + len(bench.rejected()) == 8
    assert {row["reason"] for row in bench.rejected()} <= {"quote", "columns"}


def test_an_unclosed_quote_at_the_end_does_not_eat_the_rest(bench):
    rows = "".join(f"2016-01-0{n},{n},1,A,note\n" for n in range(4, 9))
    bench.body("a.csv", HEADER + '2016-01-02,2,1,A,note\n2016-01-03,3,1,A,"note\n' + rows)
    with pytest.raises(TooManyRejectedError, match="'quote'"):
        bench.ingest(max_rejected_share=0.5)
    assert len(bench.rejected()) == 6


def test_a_quote_that_is_never_closed_in_a_long_body_says_so(bench, monkeypatch):
    monkeypatch.setattr("nightly.snapshots.csv_rows.BLOCK_BYTES", 4096)
    rows = "2016-01-02,2,1,A,note\n" * 1000
    bench.body("a.csv", HEADER + rows + '2016-01-03,3,1,A,"note\n' + rows)
    with pytest.raises(UnreadableBodyError, match="a quote is never closed"):
        bench.ingest()


def test_a_row_may_be_as_long_as_a_block_and_no_longer(bench):
    bench.body("a.csv", HEADER + "".join(f"2016-01-02,{n},1,A,{'x' * (1 << 20)}\n" for n in range(3)))
    assert bench.ingest().rows == 3
    bench.body("a.csv", HEADER + f"2016-01-02,2,1,A,{'x' * (5 << 20)}\n")
    with pytest.raises(UnreadableBodyError, match="a row is longer than 2 MiB"):
        bench.ingest()


def test_rows_are_numbered_across_batches(bench, monkeypatch):
    monkeypatch.setattr("nightly.snapshots.csv_rows.BLOCK_BYTES", 512)
    lines = ["2016-01-01,1,1,A,x"] * 1000
    lines[100], lines[500], lines[998] = "short", "2016-01-01,x,1,A,x", "short"
    bench.body("a.csv", HEADER + "\n".join(lines))
    bench.ingest()
    assert sorted(row for _, _, row in reasons(bench)) == [102, 502, 1000]


def test_too_many_bad_rows_stop_the_run_and_stay(bench):
    bench.body("a.csv", HEADER + "bad\n" * 3 + "2016-01-01,one,1,A,x\n" * 7 + "2016-01-01,1,1,A,x\n" * 90)
    with pytest.raises(TooManyRejectedError) as error:
        bench.ingest(max_rejected_share=0.09)
    assert "10 of 100 rows could not be read: 10.00%, above data_gate.max_rejected_share of 9.00%" in str(error.value)
    assert "(7 rows) the fault is 'number' in trips, e.g. 'one'" in str(error.value)
    assert "All are in rejected.parquet in the night's folder" in str(error.value)
    assert len(bench.rejected()) == 10
    assert bench.store.manifests() == []
    assert list(bench.store.folder.iterdir()) == []
    bench.ingest(max_rejected_share=0.1)


def test_a_column_of_another_type_throughout_is_kept_as_it_came(bench):
    rows = "".join(f"2016-01-01,{n}.5,{n} EUR,A,x\n" for n in range(50)) + "2016-01-01,7,7 EUR,A,x\n" * 10
    bench.body("a.csv", HEADER + rows)
    ref = bench.ingest(max_rejected_share=0.05)
    columns = bench.store.get(ref.snapshot_id).columns
    assert (columns["trips"], columns["fare"]) == ("float", "string")
    assert sorted(bench.rows(ref, "trips", "fare"))[:2] == [(0.5, "0 EUR"), (1.5, "1 EUR")]
    assert not bench.rejected_path.exists()


def test_an_older_nights_rejects_do_not_stay(bench):
    bench.body("a.csv", HEADER + "bad\n" + "2016-01-01,1,1,A,x\n")
    bench.ingest()
    bench.body("a.csv", GOOD)
    bench.ingest()
    assert bench.rejected() == []


def test_the_last_row_of_an_id_wins_and_the_others_are_counted(bench):
    bench.body("1.csv", HEADER + "2016-01-05,1,1,A,first\n2016-01-02,2,1,A,only\n")
    bench.body("2.csv", HEADER + "2016-01-03,1,1,B,revised\n2016-01-04,1,1,B,last\n")
    ref = bench.ingest(id_columns=["trips"])
    assert bench.rows(ref, "trips", "note") == [(2, "only"), (1, "last")]
    assert ref.delivery.duplicate_rows == 2


def test_without_id_columns_the_whole_row_is_the_id(bench):
    bench.body("a.csv", HEADER + "2016-01-05,1,1,A,x\n" * 3 + "2016-01-05,1,1,A,y\n")
    ref = bench.ingest()
    assert (ref.rows, ref.delivery.duplicate_rows) == (2, 2)


def test_a_row_without_an_id_is_rejected(bench):
    bench.body("a.csv", HEADER + "2016-01-05,,1,A,x\n2016-01-05,1,1,A,x\n")
    assert bench.ingest(id_columns=["trips"]).rows == 1
    assert reasons(bench) == [("id", "trips", 2)]


def test_slicing_and_order_of_rows_do_not_matter(bench):
    lines = [f"2016-01-{n:02},{n},{n / 7},A,note {n}" for n in range(1, 29)]
    bench.body("a.csv", HEADER + "\n".join(lines))
    whole = bench.ingest()
    bench.body("a.csv", HEADER + "\n".join(lines[20:]))
    bench.body("b.csv", HEADER + "\n".join(reversed(lines[:20])))
    sliced = bench.ingest()
    bench.body("c.csv", "Note,City,Fare,Trips,Day\n" + ",".join(reversed(lines[3].split(","))))
    reordered = bench.ingest()
    assert whole.snapshot_id == sliced.snapshot_id == reordered.snapshot_id
    bench.body("c.csv", HEADER + lines[3].replace("note", "other"))
    assert bench.ingest().snapshot_id != whole.snapshot_id


def test_a_column_that_only_some_bodies_have_is_blank_in_the_others(bench):
    bench.body("a.csv", "Day,Trips\n2016-01-01,1\n")
    bench.body("b.csv", "Day,Trips,Fare,City\n2016-01-02,2,2.5,A\n")
    ref = bench.ingest()
    assert bench.rows(ref, "trips", "fare", "city") == [(1, None, None), (2, 2.5, "A")]
    assert bench.store.get(ref.snapshot_id).label_counts == {"": 1, "A": 1}


def test_a_body_that_changed_or_went_after_the_download(bench):
    path = bench.body("a.csv", GOOD)
    bench.after_download = lambda: path.write_text(GOOD + "2016-01-09,1,1,A,x\n")
    with pytest.raises(UnreadableBodyError, match=r"a\.csv has changed"):
        bench.ingest()
    bench.after_download = path.unlink
    with pytest.raises(UnreadableBodyError, match=r"a\.csv: No such file.*run the download again"):
        bench.ingest()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:5], "no header line: its compressed data end too early"),
        ("a.csv.gz", b"not gzip at all", "cannot be read"),
        ("a.csv", "\n\n", "no header line"),
        ("a.tfrecord", b"not a record at all", "not TFRecord"),
    ],
)
def test_a_damaged_body_says_which(bench, name, content, words):
    bench.body(name, content)
    with pytest.raises(UnreadableBodyError, match=rf"{name}.*{words}"):
        bench.ingest()


TEXT = '2016-01-03,4,2.5,C,"two lines,\nof ""text"""\n'
CUT = {
    "in its first field": "2016-0",
    "after a comma": "2016-01-03,4,",
    "before its last field": "2016-01-03,4,2.5,C",
    "the same, and a newline": "2016-01-03,4,2.5\n",
    "the same, and blank lines": "2016-01-03,4,2.5\n\n\n",
    "the same, with CRLF": "2016-01-03,4,2.5\r\n",
    "inside of a quoted field": '2016-01-03,4,2.5,"C',
    "inside of a quoted last field": TEXT[:30],
    "in its second line": TEXT[:40],
    "after a quote of that text": TEXT[:-8],
    "inside of a character": "2016-01-03,4,2.5,C,caf\u00e9".encode()[:-1],
}


@pytest.mark.parametrize("cut", CUT.values(), ids=CUT)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.zip"])
def test_a_body_that_ends_in_the_middle_of_a_row_is_truncated(bench, name, cut):
    content = GOOD.encode() + TEXT.encode() + (cut.encode() if isinstance(cut, str) else cut)
    if name == "a.zip":
        with zipfile.ZipFile(bench.bodies / name, "w") as archive:
            archive.writestr("inside.csv", content)
    else:
        bench.body(name, gzip.compress(content) if name.endswith(".gz") else content)
    ref = bench.ingest()
    (body,) = ref.delivery.truncated
    assert body.file.startswith(str(bench.bodies / name))
    assert body.reason.startswith(("its last row has", "it ends in"))
    assert ref.rows == 3  # the cut one is not among them
    assert ref.delivery.rejected_rows == ("character" in body.reason)


def test_what_is_truncated_is_said_in_words(bench):
    bench.body("a.csv", GOOD + "2016-01-03,4,2.5")
    (body,) = bench.ingest().delivery.truncated
    assert (body.reason, body.text) == ("its last row has 3 fields instead of 5", "2016-01-03,4,2.5")
    bench.body("a.csv", GOOD + '2016-01-03,4,2.5,C,"a\nb')
    (body,) = bench.ingest().delivery.truncated
    assert (body.reason, body.text) == (
        "it ends inside a quoted value, or a quote is never closed",
        "2016-01-03,4,2.5,C,a",
    )


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.removesuffix("\n"),
        GOOD + TEXT,
        GOOD + TEXT.removesuffix("\n"),
        GOOD + "\n\n",
        GOOD.replace("\n", "\r"),
        "Day\n2016-01-02\n2016-01-01",
        HEADER + "short\n" + GOOD.removeprefix(HEADER),
        GOOD + "2016-01-03,4,2.5,C,x,too many\n",
        GOOD + '2016-01-03,4,2.5,C,5" pipe\n',
    ],
)
def test_a_whole_body_is_not_truncated(bench, content):
    bench.body("a.csv", content)
    ref = bench.ingest()
    assert ref.rows >= 2
    assert ref.delivery.truncated == []
    assert bool(ref.delivery.without_newline) == (content[-1] not in "\r\n")


@pytest.mark.parametrize("at", range(1, 40))
def test_wherever_a_body_of_many_blocks_is_cut(bench, monkeypatch, at):
    """Cut inside of the last value, or after it, it has as many fields as it should."""
    monkeypatch.setattr("nightly.snapshots.csv_rows.BLOCK_BYTES", 512)
    rows = [f'2016-01-02,{n},1.5,A,"note, {n}\nof two lines"\n' for n in range(100, 200)]
    bench.body("a.csv", HEADER + "".join(rows)[:-at])
    ref = bench.ingest()
    last = rows[-1][:-at]
    cut = last.count('"') == 1 or last.count(",") < 4
    assert [bool(ref.delivery.truncated), ref.rows] == [cut, 99 if cut else 100]


def test_a_cut_column_of_one_value(bench):
    bench.body("a.csv", 'Day\n2016-01-02\n2016-01-01\n"2016-')
    ref = bench.ingest()
    assert (ref.rows, len(ref.delivery.truncated)) == (2, 1)


def test_compressed_data_that_end_too_early_are_read_to_there(bench):
    rows = "".join(f"2016-01-02,{n},{n / 7},A,{hash(str(n))}\n" for n in range(50_000))
    bench.body("a.csv.gz", gzip.compress((HEADER + rows).encode())[:-1000])
    ref = bench.ingest()
    (body,) = ref.delivery.truncated
    assert body.reason.startswith("its compressed data end too early")
    assert 10_000 < ref.rows < 50_000


def test_nothing_before_the_cut_is_no_empty_window(bench):
    bench.body("a.csv", HEADER + "2016-01-03,4")
    with pytest.raises(TruncatedBodyError, match=r"a\.csv is truncated: its last row has 2 fields instead of 5"):
        bench.ingest()


def test_a_truncated_delivery_is_not_too_many_bad_rows(bench):
    bench.body("a.csv", GOOD + "2016-01-03,4")
    assert bench.ingest(max_rejected_share=0.01).delivery.truncated


@pytest.mark.parametrize("cut", [3, 14, 1])
@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_tfrecord_that_ends_in_the_middle_of_a_record(bench, name, cut):
    content = records([{"day": [1451606400], "trips": [n], "city": [b"A"]} for n in range(50)])
    bench.body(name, gzip.compress(content[:-cut]) if name.endswith(".gz") else content[:-cut])
    ref = bench.ingest(time_format="epoch_s")
    assert ref.rows == 49
    assert [body.reason for body in ref.delivery.truncated] == ["it ends in the middle of a record"]
    bench.body(name, gzip.compress(content)[:-cut] if name.endswith(".gz") else content[:-60])
    assert bench.ingest(time_format="epoch_s").delivery.truncated


def records(rows):
    """tf.Examples of dictionaries of lists, framed as TFRecord."""
    import struct

    from tensorflow.core.example import example_pb2

    from nightly.examples.tfrecord import masked_crc

    framed = b""
    for row in rows:
        example = example_pb2.Example()
        for name, values in row.items():
            feature = example.features.feature[name]
            if all(isinstance(value, bytes) for value in values):
                feature.bytes_list.value.extend(values)
            elif all(isinstance(value, int) for value in values):
                feature.int64_list.value.extend(values)
            else:
                feature.float_list.value.extend(values)
        data = example.SerializeToString()
        size = struct.pack("<Q", len(data))
        framed += size + struct.pack("<I", masked_crc(size)) + data + struct.pack("<I", masked_crc(data))
    return framed


@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecord.gz"])
def test_tfrecord_of_examples(bench, name):
    content = records(
        [
            {"day": [1451606400], "trips": [1], "fare": [0.1], "city": [b"A"]},
            {"day": [1451692800], "trips": [2], "city": ["é".encode()]},
            {"day": [1451692800], "trips": [1, 2], "city": [b"A"]},
            {"day": [1451692800], "trips": [4], "city": [b"\xe9"]},
            {"day": [], "trips": [5], "city": [b"A"]},
        ]
    )
    bench.body(name, gzip.compress(content) if name.endswith(".gz") else content)
    ref = bench.ingest(time_format="epoch_s")
    assert bench.rows(ref, "day", "trips", "fare", "city") == [
        (utc(2016, 1, 1), 1, 0.1, "A"),
        (utc(2016, 1, 2), 2, None, "é"),
    ]
    assert sorted(reasons(bench)) == [("columns", "trips", 3), ("encoding", "city", 4), ("time", "day", 5)]


def test_a_record_with_a_wrong_checksum_is_rejected(bench):
    good = {"day": [1451606400], "trips": [1], "city": [b"Austin"]}
    content = records([good, good | {"trips": [2]}])
    where = content.rindex(b"Austin")
    bench.body("a.tfrecord", content[:where] + b"Boston" + content[where + 6 :])
    assert bench.ingest(time_format="epoch_s").rows == 1
    assert reasons(bench) == [("record", "", 2)]


def test_real_complaints(bench, complaints):
    ref = bench.ingest(
        path=complaints,
        start=utc(2016, 1, 1),
        end=utc(2016, 3, 1),
        time_column="date_received",
        time_format="%m/%d/%Y",
        label={"column": "consumer_disputed", "positive": ["Yes"]},
    )
    manifest = bench.store.get(ref.snapshot_id)
    assert manifest.rows + ref.delivery.duplicate_rows == ref.delivery.rows == 2783
    assert sum(manifest.label_counts.values()) == manifest.rows
    assert set(manifest.label_counts) == {"", "No", "Yes"}
    assert ref.delivery.rejected == []
    assert ref.delivery.truncated == []


def test_real_taxi_trips(bench):
    bench.schema.write_text('feature { name: "fare" type: FLOAT } feature { name: "big_tipper" type: INT }')
    ref = bench.ingest(
        path="package:tfx/examples/chicago_taxi_pipeline/data/big_tipper_label/data.csv",
        start=utc(2013, 1, 1),
        end=utc(2017, 1, 1),
        time_column="trip_start_timestamp",
        time_format="epoch_s",
        label={"column": "big_tipper", "positive": ["1"]},
    )
    manifest = bench.store.get(ref.snapshot_id)
    assert (manifest.rows, ref.delivery.rejected_rows) == (15_002, 0)
    assert np.isclose(manifest.label_counts["1"] / 15_002, 0.225, atol=0.001)
