"""HTTP APIs of each kind, from real servers: JSON, JSON lines and CSV, in one answer and in pages."""

import datetime as dt
import io
import json
import subprocess
import sys
import time
import traceback
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from nightly.io.space import SpaceError
from nightly.records.base import ContractError
from nightly.records.config import ModelConfig
from nightly.records.connection import Connection
from nightly.records.source_config import HttpSource
from nightly.sources.errors import HttpStatusError, RefusedError, SourceError
from nightly.sources.http.json_document import JsonDocument, JsonError, dig
from tests.nightly.io.test_space import small  # noqa: F401
from tests.support.faulty_server import FaultyServer
from tests.support.fetched import download, rows_of, snapshot
from tests.support.nights import utc
from tests.support.paged_api import PagedApi

BY_DAY = {"from": "{start}", "until": "{end}"}
START, END = utc(2016, 1, 1), utc(2016, 1, 5)
ROWS = [
    {
        "day": f"2016-01-0{1 + n // 5}",
        "trips": None if n == 7 else n,
        "fare": n / 4,
        "city": ["A", "Zürich", 'B, "b"', ""][n % 4],
        "card": n % 3 == 0,
    }
    for n in range(20)
]


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def source(api, **keys):
    return HttpSource(**{"url": api.address, "params": BY_DAY, "retries": 2, "timeout_seconds": 5, **keys})


def ids(fetched):
    return sorted(int(row["trips"] or 7) for row in rows_of(fetched))


def test_the_shortest_config_asks_by_day_and_the_next_night_for_a_day(tmp_path):
    with PagedApi(ROWS) as api:
        config = HttpSource(url=api.address, params=BY_DAY, settled_days=2)
        first = download(config, tmp_path, START, END, run_id="first")
        assert api.requests == [{"from": f"2016-01-0{day}", "until": f"2016-01-0{day + 1}"} for day in (1, 2, 3, 4)]
        assert ids(first) == list(range(20))
        assert first.files[0].origin == f"{api.address}?from=2016-01-01&until=2016-01-02"
        api.requests.clear()
        second = download(config, tmp_path, utc(2016, 1, 2), utc(2016, 1, 6), run_id="second")
    assert api.requests == [{"from": "2016-01-05", "until": "2016-01-06"}]
    assert (second.files, second.reused) == (first.files[1:], 3)  # there are no rows of the 5th


PAGINGS = {
    "page": {"kind": "page", "total": "meta.total"},
    "offset": {"kind": "offset"},
    "cursor": {"kind": "cursor", "next": "meta.next", "param": "token"},
    "next": {"kind": "cursor", "next": "meta.next"},
    "link": None,
    "": None,
}


@pytest.mark.parametrize("paging", PAGINGS)
def test_all_pages_arrive_once_and_in_order(tmp_path, paging):
    with PagedApi(ROWS, paging=paging) as api:
        fetched = download(source(api, paging=PAGINGS[paging], slice_days=31), tmp_path, START, END)
    assert [row["trips"] for row in rows_of(fetched)] == [None if n == 7 else str(n) for n in range(20)]


def test_the_same_rows_are_the_same_snapshot_in_every_format(tmp_path):
    rows = [{**row, "card": int(row["card"])} for row in ROWS]
    snapshots = {}
    with PagedApi(rows, paging="link") as api:
        for form in ("csv", "jsonl", "json"):
            api.rows = ROWS if form == "json" else rows  # true and false in JSON are 1 and 0
            fetched = download(source(api, format=form, params={**BY_DAY, "format": form}), tmp_path / form, START, END)
            snapshots[form] = snapshot(fetched, tmp_path / form / "ingested")
    assert snapshots["csv"].rows == 20
    assert len({ref.snapshot_id for ref in snapshots.values()}) == 1


def test_the_url_has_a_window_in_any_format(tmp_path):
    with PagedApi(ROWS) as api:
        params = {"a": "{start:%Y%m%dT%H%M%SZ}", "b": "{last:%H:%M:%S}", "c": "{end:epoch_s}", "d": "{last:epoch_ms}"}
        config = source(api, url=f"{api.address}?until={{end}}&from={{start}}", params=params)
        download(config, tmp_path, START, utc(2016, 1, 2))
    written = {"a": "20160101T000000Z", "b": "23:59:59", "c": "1451692800", "d": "1451692799999"}
    assert api.requests == [{"until": "2016-01-02", "from": "2016-01-01", **written}]


def test_without_a_window_the_source_is_one_answer(tmp_path):
    with PagedApi(ROWS) as api:
        assert len(rows_of(download(source(api, params={}), tmp_path, START, END))) == 20
    assert api.requests == [{}]


def test_a_request_that_is_the_same_for_all_days_of_a_month_is_made_once(tmp_path):
    with PagedApi(ROWS) as api:
        fetched = download(source(api, params={"month": "{start:%Y-%m}"}), tmp_path, START, END)
    assert api.requests == [{"month": "2016-01"}] and ids(fetched) == list(range(20))


@pytest.mark.parametrize(("status", "too_big"), [(413, []), (413, [400]), (400, [400])])
def test_a_slice_that_is_too_big_is_halved(status, too_big, tmp_path):
    def refuse(handler) -> None:
        query = parse_qs(urlsplit(handler.path).query)
        days = dt.date.fromisoformat(query["until"][0]) - dt.date.fromisoformat(query["from"][0])
        handler._send(*((status, b"", "text/plain") if days.days > 1 else (200, b'[{"id": 1}]', "application/json")))

    with PagedApi(ROWS) as api:
        api._server.RequestHandlerClass.do_GET = refuse
        fetched = download(source(api, slice_days=4, too_big_statuses=too_big), tmp_path, START, END)
    assert [row["id"] for row in rows_of(fetched)] == ["1"] * 5  # one of each day of its slices


def test_half_of_a_slice_that_is_as_all_of_it_was_does_not_stand_for_the_slice(tmp_path):
    old, late = (f"2016-01-0{day},{n}\n" for day, n in ((2, 1), (4, 2)))
    (tmp_path / "rows.csv").write_text(f"Date received,n\n{old}")
    params = {"format": "csv", "date_received_min": "{start}", "date_received_max": "{last}"}
    with FaultyServer(tmp_path / "rows.csv") as server:
        config = HttpSource(url=server.address, params=params, format="csv", slice_days=31, too_big_statuses=[400])
        start, end = utc(2016, 1, 2), utc(2016, 1, 5)
        download(config, tmp_path, start, end, run_id="first")
        server.rows.append(late.strip().split(","))
        server.days.append(dt.date(2016, 1, 4))
        server.max_rows = 1
        second = download(config, tmp_path, start, end, run_id="second")
    assert [Path(file.path).read_text() for file in second.files] == [f"Date received,n\n{old}{late}"]


def test_numbers_are_as_precise_in_one_document_as_in_lines(tmp_path):
    numbers = ["1" * 4000, "12345678901234567890123", "-0", "12.50", "1e3", "0.1", "1234567890.123456789", "1E400"]
    found = {}
    for form, separator in (("json", ","), ("jsonl", "\n")):
        rows = separator.join(f'{{"n": {number}, "list": [{number}]}}' for number in numbers)
        body = f"[{rows}]" if form == "json" else rows
        with PagedApi(ROWS) as api:
            api._server.RequestHandlerClass.do_GET = lambda handler, body=body: handler._send(
                200, body.encode(), "text/plain"
            )
            found[form] = rows_of(download(source(api, params={}, format=form), tmp_path / form, START, END))
    assert [row["n"] for row in found["json"]][1:5] == ["12345678901234567890123", "0", "12.5", "1000.0"]
    assert found["json"] == found["jsonl"]


def test_objects_become_columns_and_lists_stay_json(tmp_path):
    rows = [
        {"day": "2016-01-01", "place": None, "tags": ["a", 1.5], "ok": True},
        {"day": "2016-01-01", "place": {"city": "A", "at": {"x": 1}}, "tags": [], "ok": None},
    ]
    with PagedApi(rows) as api:
        fetched = download(source(api), tmp_path, START, END)
    assert rows_of(fetched) == [
        {"day": "2016-01-01", "tags": '["a", 1.5]', "ok": True, "place.city": None, "place.at.x": None},
        {"day": "2016-01-01", "tags": "[]", "ok": None, "place.city": "A", "place.at.x": "1"},
    ]


@pytest.mark.parametrize(("paging", "sign"), [("next", "meta.next is '/trips"), ("cursor", "meta.next is '3'")])
def test_pages_that_nobody_asked_for_are_noticed(tmp_path, paging, sign):
    with (
        PagedApi(ROWS, paging=paging) as api,
        pytest.raises(RefusedError, match=f"has more pages.*{sign}.*Write paging"),
    ):
        download(source(api, slice_days=31), tmp_path, START, END)


@pytest.mark.parametrize(
    ("paging", "rows", "message"),
    [
        ({"kind": "cursor", "next": "next", "param": "token"}, 1, "more than 20 pages, with 20 rows so far"),
        ({"kind": "cursor", "next": "next", "param": "token"}, 0, "5 pages in a row have no rows, and name a next one"),
        ({"kind": "page"}, 1, "more than 20 pages, .* raise source.max_pages"),
        (None, 1, "more than 20 pages"),
    ],
)
def test_an_api_that_pages_for_ever_is_noticed(tmp_path, monkeypatch, paging, rows, message):
    def answer(handler):
        number = len(handler.api.requests)
        assert number < 100
        handler.api.requests.append({})
        items = [{"day": "2016-01-01", "asked": number}] * rows
        link = {"Link": f'</trips?token={number}>; rel="next"'} if paging is None else {}
        return handler._send(200, json.dumps({"rows": items, "next": number + 1}).encode(), "application/json", link)

    monkeypatch.setattr("nightly.sources.http.pages.MOST_EMPTY", 5)
    with PagedApi(ROWS) as api, pytest.raises(RefusedError, match=message):
        api._server.RequestHandlerClass.do_GET = answer
        download(source(api, params={}, paging=paging, max_pages=20), tmp_path, START, END)
    assert len(api.requests) == (20 if rows else 5)


@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize(
    ("header", "value"),
    [("X-Total-Count", "20"), ("x-total", "20"), ("Content-Range", "items 0-2/20"), ("Content-Range", "0-2/20")],
)
def test_a_header_with_more_rows_than_arrived_is_noticed(tmp_path, header, value, form):
    def answer(handler):
        rows = ROWS[: handler.api.size]
        body = json.dumps(rows) if form == "json" else "day,n\n" + "".join(f"{row['day']},1\n" for row in rows)
        return handler._send(200, body.encode(), f"text/{form}", {header: value})

    with PagedApi(ROWS) as api:
        api._server.RequestHandlerClass.do_GET = answer
        with pytest.raises(RefusedError, match=rf"(?i)more pages.*{header} is 20, and 3 rows.*kind = \"page\".*none"):
            download(source(api, params={}, format=form), tmp_path, START, END)
        assert download(source(api, params={}, format=form, paging={"kind": "none"}), tmp_path, START, END).files
        api.size = 20
        assert download(source(api, params={}, format=form), tmp_path / "all", START, END).files


def test_days_that_all_end_at_a_round_number_of_rows_are_doubted(tmp_path, caplog):
    days = {1: 12, 2: 10, 3: 10, 4: 10}
    for more, paging, warned in [(0, None, False), (-2, None, True), (-2, {"kind": "none"}, False), (1, None, False)]:
        days[1] = 12 + more
        if more == 1:
            days.update(dict.fromkeys(days, 13))  # no limit
        caplog.clear()
        rows = [{"day": f"2016-01-0{day}", "n": n} for day, count in days.items() for n in range(count)]
        with PagedApi(rows) as api:
            download(source(api, paging=paging), tmp_path / f"{more} {paging}", START, END)
        assert ("3 answers have 10 rows each, and none has more" in caplog.text) is warned, (more, paging)


def test_a_parameter_that_the_api_does_not_know_is_noticed(tmp_path):
    with (
        PagedApi(ROWS) as api,
        pytest.raises(RefusedError, match=r"the rows of page 1; the API does not heed .* page:"),
    ):
        download(source(api, paging={"kind": "page"}), tmp_path, START, END)
    assert not list(tmp_path.glob("bodies/*"))


def test_rows_that_come_and_go_while_pages_are_read_are_noticed(tmp_path, caplog):
    rows = list(ROWS)

    def add_a_row(number):
        if number == 2:  # before the second page, whose rows move by one
            api.rows = [{**ROWS[0], "trips": 99}, *rows]

    with PagedApi(rows, paging="offset") as api:
        api.on_request = add_a_row
        fetched = download(source(api, paging={"kind": "offset"}, slice_days=31), tmp_path, START, END)
    assert ids(fetched) == [*range(20), 99]
    assert "page 2 begins with the last row of the page before; reading it again" in caplog.text


def test_a_page_behind_the_last_one_may_be_missing(tmp_path):
    class Pages:
        def __call__(self, handler):
            page = int(handler.path.rpartition("=")[2])
            body = json.dumps({"rows": [{"day": "2016-01-01", "trips": page}], "count": self.count}).encode()
            return handler._send(200 if page < 3 else 404, body, "application/json")

    pages, paging = Pages(), {"kind": "page"}
    with PagedApi(ROWS) as api:
        api._server.RequestHandlerClass.do_GET = lambda handler: pages(handler)
        pages.count = 2
        for config in (paging, {**paging, "total": "count"}):
            fetched = download(source(api, params={}, paging=config), tmp_path, START, END)
            assert [row["trips"] for row in rows_of(fetched)] == ["1", "2"]
        pages.count = 3
        with pytest.raises(SourceError, match="2 rows arrived, and count is 3"):
            download(source(api, params={}, paging={**paging, "total": "count"}), tmp_path / "other", START, END)


def test_a_total_that_never_arrives_is_an_error(tmp_path):
    config = {"kind": "page", "total": "meta.total"}

    def lose_a_row(number):
        api.rows = api.rows[:-1]

    with PagedApi(ROWS, paging="page") as api:
        api.on_request = lose_a_row
        with pytest.raises(SourceError, match=r"changes while its pages are read: .*meta.total was \d+ and is \d+"):
            download(source(api, paging=config, slice_days=31), tmp_path, utc(2016, 1, 2), END)


def test_an_expired_token_keeps_what_has_arrived(tmp_path):
    connection = Connection(password="planted-secret")
    with PagedApi(ROWS) as api:
        api.password, api.expires_after = "planted-secret", 2
        with pytest.raises(HttpStatusError, match=r"401 Unauthorized.*token has expired.*renew it") as error:
            download(source(api), tmp_path, START, END, connection=connection)
        api.expires_after = None
        fetched = download(source(api), tmp_path, START, END, connection=connection)
    assert [request["from"][-2:] for request in api.requests[:3]] == ["01", "02", "03"]
    assert [request["from"][-2:] for request in api.requests[-2:]] == ["03", "04"]
    assert ids(fetched) == list(range(20))
    assert "planted-secret" not in "".join(traceback.format_exception(error.value))


def test_a_full_disk_is_one_sentence_and_leaves_nothing(small):  # noqa: F811
    rows = [{"day": "2016-01-01", "text": f"{number:0>10000}"} for number in range(3000)]
    with PagedApi(rows) as api, pytest.raises(SpaceError, match=r"small.*and the download of http.* needs|became full"):
        api.rows = rows * 2
        download(source(api), small, START, END)
    assert sum(path.stat().st_size for path in small.rglob("*") if path.is_file()) < 10_000  # small records


def test_secrets_of_the_connection_are_in_no_record_and_no_error(tmp_path, caplog):
    extra = {"headers": {"X-Key": "planted-1"}, "params": {"appid": "planted-2"}, "X-More": "planted-3"}
    connection = Connection(login="planted", password="planted-4", extra=extra)
    with PagedApi(ROWS, paging="link") as api:
        fetched = download(source(api), tmp_path, START, END, connection=connection)
        api.password = "another"
        with pytest.raises(HttpStatusError) as error:
            download(source(api, headers={"A": "b"}), tmp_path, START, END, connection=connection)
    assert api.requests[1]["appid"] == "planted-2" and api.requests[1]["token"] == "3"
    sent = api.headers[1]
    assert (sent["X-Key"], sent["X-More"], sent["Authorization"]) == (
        "planted-1",
        "planted-3",
        "Basic cGxhbnRlZDpwbGFudGVkLTQ=",
    )
    kept = "".join(path.read_text() for path in tmp_path.glob("parts/*.json")) + fetched.model_dump_json()
    assert "planted" not in kept + caplog.text + "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        ({"host": "api.example.org"}, "https://api.example.org/v1/trips?x=1"),
        ({"host": "api.example.org", "port": 8443, "schema": "http"}, "http://api.example.org:8443/v1/trips?x=1"),
        ({"host": "http://localhost:80/all"}, "http://localhost:80/all"),
        ({"host": "a.org", "extra": {"path": "/v2"}}, "https://a.org/v2?x=1"),
        ({"conn_type": "https", "host": "a.org", "schema": "v3/trips"}, "https://a.org/v3/trips?x=1"),
        ({"password": "x"}, "https://nowhere.invalid/v1/trips?x=1"),
    ],
)
def test_the_connection_replaces_the_address(connection, url):
    from nightly.sources.http.connection import url_of

    assert url_of(Connection.model_validate(connection), "https://nowhere.invalid/v1/trips?x=1") == url


@pytest.mark.parametrize(
    ("body", "keys", "message"),
    [
        ('{"error": "no such thing"}', {}, "no list of rows; it has error"),
        ('{"a": [{"x": 1}], "b": [{"y": 2}]}', {}, "lists at a and at b: name the one with the rows by `rows`"),
        ('{"a": {"b": [{"x": 1}]}}', {"rows": "a.c"}, "no list at a.c; it has a"),
        ("[[1, 2]]", {}, r"row 1 is \[1, 2\], and a row is an object"),
        ('[{"x": 1}, {"x": ', {}, "damaged, or ends too early: parse error: premature EOF"),
        (
            '[{"x": 1}, {"x": NaN}]',
            {},
            r'damaged, .*: lexical error: invalid char in json text. \[{"x": 1}, {"x": NaN}\]',
        ),
        ('[{"x": 1}] [', {}, "damaged, .*: parse error: trailing garbage"),
        ('{"a": {"b": ' + "[" * 5000 + "]" * 5000 + "}}", {}, "damaged: values are nested too deeply"),
        ("[" + "9" * 5000 + "]", {}, "damaged: a number has too many digits"),
        ('[{"x": 1e9999999999999999999999}]', {}, "damaged: a number has too many digits"),
        ("day,trips\n2016-01-01,1\n", {}, 'begins .day,trips.*set format = "csv"'),
        ('[{"x": 1}]', {"format": "csv"}, 'answers JSON, not CSV: set format = "json"'),
        ('{"x": 1}\n{"x"', {"format": "jsonl"}, "line 2 is no JSON"),
    ],
)
def test_an_answer_of_another_kind_is_one_sentence(tmp_path, body, keys, message):
    with PagedApi(ROWS) as api:
        api._server.RequestHandlerClass.do_GET = lambda handler: handler._send(200, body.encode(), "text/plain")
        with pytest.raises(SourceError, match=message) as error:
            download(source(api, **keys), tmp_path, START, END)
    assert isinstance(error.value, RefusedError) is ("damaged" not in message and "no JSON" not in message)
    assert not list(tmp_path.glob("bodies/*"))


@pytest.mark.parametrize("place", ["items", "data.items"])
@pytest.mark.parametrize(
    ("members", "is_empty"),
    [
        ('"kind": "list", "labels": ["a"], "errors": []', True),
        ("", True),
        ('"error": {"code": 7}', False),
        ('"records": [{"x": 1}]', False),
        ('"items": "none"', False),
    ],
)
def test_a_list_that_is_left_out_is_empty_if_the_config_says_so(tmp_path, place, members, is_empty):
    text = f'{{"data": {{{members}}}}}' if "." in place else f"{{{members}}}"
    with PagedApi(ROWS) as api:
        api._server.RequestHandlerClass.do_GET = lambda handler: handler._send(200, text.encode(), "application/json")
        keys = {"rows": place, "omits_empty_rows": True}
        if is_empty:
            assert download(source(api, **keys), tmp_path, START, END).files == []
            with pytest.raises(RefusedError, match=r"no list at .*out an empty list, set omits_empty_rows"):
                download(source(api, rows=place), tmp_path, START, END, run_id="second")
        else:
            with pytest.raises(RefusedError, match=f"no list at {place}"):
                download(source(api, **keys), tmp_path, START, END)


@pytest.mark.parametrize("why", ['"errors": [{"message": "x"}]', '"error": "quota"', '"results": [{"x": 1}]'])
def test_a_list_is_not_left_out_of_an_answer_that_says_why(why):
    for text in (f'{{{why}, "data": {{}}}}', f'{{"data": {{{why}}}}}'):
        with pytest.raises(JsonError, match=r"no list at data\.items"):
            list(JsonDocument(io.StringIO(text), "data.items", omits_empty=True).rows())


def test_a_list_is_not_left_out_with_the_object_that_it_is_in():
    with pytest.raises(JsonError, match=r"no list at data\.items; it has status"):
        list(JsonDocument(io.StringIO('{"status": "ok"}'), "data.items", omits_empty=True).rows())


def test_a_config_that_cannot_work_is_one_sentence():
    config = {"name": "m", "description": "", "data": {"id_columns": [], "time_column": "t", "label": {"column": "l"}}}
    for keys, message in [
        ({"url": "api.example.org"}, "begins with https:// or http://"),
        ({"url": "https://me:planted@api.example.org"}, "put them into the connection"),
        ({"params": {"api_key": "planted"}}, "which is a secret: put it into the connection's extra"),
        ({"headers": {"Authorization": "planted"}}, "which is a secret"),
        ({"params": {"from": "{begin}"}}, "{begin}"),
        ({"params": {"from": "{start:epoch}"}}, "epoch_s"),
        ({"paging": {"kind": "curser"}}, "cursor"),
        ({"format": "csv", "rows": "data"}, "no places such as rows"),
        ({"omits_empty_rows": True}, "name its path"),
        ({"kind": "complaints_api"}, 'has become a configuration of kind = "http"'),
    ]:
        section = {"kind": "http", "url": "https://api.example.org", **keys}
        with pytest.raises(ContractError, match=message) as error:
            ModelConfig.parse({**config, "source": section}, where="config.toml")
        assert "planted" not in str(error.value), keys


def test_a_long_document_is_read_row_by_row():
    class Endless(io.StringIO):
        """A list of 50,000 rows, which is never in memory as a whole."""

        left, most = 50_000, 0

        def read(self, size=-1):
            self.most = max(self.most, size)
            count = min(self.left, size // 50)
            self.left -= count
            start = '{"meta": {"total": 50000}, "data": {"items": [{"first": 1}' if count and self.tell() == 0 else ""
            self.seek(1)
            return start + ', {"text": "a text of some length", "number": 12.5}' * count + ("" if count else self.end())

        def end(self):
            self.closed_list, closed = True, getattr(self, "closed_list", False)
            return "" if closed else ']}, "after": 12}'

    stream = Endless()
    document = JsonDocument(stream)
    assert sum(1 for _ in document.rows()) == 50_001
    assert document.rest == {"meta": {"total": 50000}, "data": {"items": None}, "after": 12}
    assert stream.most <= 1 << 17


@pytest.mark.parametrize("cut", range(1, 75, 7))
def test_json_is_read_the_same_wherever_the_reads_end(cut):
    text = '\n{"n": -1.5e3, "a": {"rows": [ {"x": "é\\"]"} ,{"x": [1, {"y": null}]}], "z": 120}}  '

    class Cut(io.StringIO):
        def read(self, size=-1):
            return super().read(cut)

    document = JsonDocument(Cut(text), "a.rows")
    assert list(document.rows()) == json.loads(text)["a"]["rows"]
    assert document.rest == {"n": -1500.0, "a": {"rows": None, "z": 120}}
    with pytest.raises(JsonError):
        list(JsonDocument(Cut(text[:-cut].rstrip("} ")), "a.rows").rows())


def test_places_may_have_dots_and_numbers():
    document = {"@odata.nextLink": "x", "a": [{"b": 1}], "c": {"d.e": {"f": 2}}}
    found = [dig(document, place) for place in ("@odata.nextLink", "a.0.b", "c.d.e.f", "a.1.b", "c.g", "n")]
    assert found == ["x", 1, 2, None, None, None]


def test_the_source_loads_no_tensorflow():
    code = (
        "import sys, nightly.nights.download, nightly.sources.http, nightly.sources.python\n"
        "sys.exit(any(name.split('.')[0] in ('tensorflow', 'tfx', 'pandas') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
