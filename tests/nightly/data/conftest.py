"""A project of a test's own, and real rows to measure."""

import pandas as pd
import pytest

from tests.support.data import TAXI


@pytest.fixture(scope="session")
def trips():
    return pd.read_csv(TAXI)


@pytest.fixture(autouse=True)
def own_project(paths):
    """No test of this folder writes into another's."""
