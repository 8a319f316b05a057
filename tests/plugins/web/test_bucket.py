"""The page of nights whose state is in a bucket, on a host that ran none of them."""

import shutil
from importlib import import_module

import pytest

from nightly.io.paths import safe_name
from nightly.records.verdict import Outcome
from nightly.state import current
from nightly.state.names import host_paths
from tests.support.written_nights import write_night, write_release


@pytest.fixture
def on_another_host(bucket, move):
    """Calls a function with the paths of a session on another host, then goes back to the page's host."""

    def run(work):
        move("other")
        with current().session("taxi") as paths:
            name = work(paths)
        move("page")
        return name

    return run


def test_the_page_shows_a_night_of_another_host_and_soon_its_change(ask, on_another_host, monkeypatch):
    monkeypatch.setattr("nightly.state.bucket.VIEW_SECONDS", 0)
    name = on_another_host(lambda paths: write_night(paths, 0, Outcome.HELD_DATA))
    assert "HELD_DATA" in ask(f"/nightly/taxi/nights/{safe_name(name)}").text
    on_another_host(lambda paths: write_night(paths, 0, Outcome.RELEASED))
    text = ask(f"/nightly/taxi/nights/{safe_name(name)}").text
    assert "RELEASED" in text and "HELD_DATA" not in text
    assert ask("/nightly/").status_code == ask("/nightly/taxi").status_code == 200


def test_the_page_is_whole_at_once_after_its_hosts_folder_was_deleted(ask, on_another_host):
    name = on_another_host(lambda paths: write_night(paths, 0, Outcome.RELEASED))
    for _ in range(2):
        answer = ask(f"/nightly/taxi/nights/{safe_name(name)}")
        assert answer.status_code == 200 and "RELEASED" in answer.text
        shutil.rmtree(host_paths().var)


def test_the_page_says_that_the_bucket_is_away(ask, on_another_host, monkeypatch):
    on_another_host(lambda paths: write_night(paths, 0, Outcome.RELEASED))
    monkeypatch.setattr("nightly.state.objects.RETRY_SECONDS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    import_module("nightly.state.current")._bucket.cache_clear()
    answer = ask("/nightly/taxi")
    assert answer.status_code == 503 and "The nights cannot be read now" in answer.text


def test_the_page_reads_a_bucket_at_most_once_in_a_few_seconds(ask, on_another_host, bucket):
    on_another_host(lambda paths: write_release(paths, 1480000000))
    ask("/nightly/taxi")
    bucket.requests.clear()
    ask("/nightly/taxi")
    assert not bucket.requests
