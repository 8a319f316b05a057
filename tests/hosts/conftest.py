"""One cluster for all tests here: it takes minutes to start."""

from pathlib import Path

import pytest

from tests.hosts.cluster import running_cluster
from tests.hosts.host import refusal
from tests.hosts.services import redis_server

TEST_SECONDS = 3 * 3600
ORDER = ("test_nights", "test_faults", "test_campaign")  # the first nights are of the earliest days


def pytest_collection_modifyitems(items):
    own = [item for item in items if Path(__file__).parent in item.path.parents]
    if own == items:
        items.sort(key=lambda item: ORDER.index(item.path.stem))
    for item in own:
        for mark in (pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(TEST_SECONDS)):
            item.add_marker(mark)


@pytest.fixture(scope="session")
def cluster():
    if reason := refusal():
        pytest.skip(reason)
    try:
        redis_server()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with running_cluster() as running:
        yield running
