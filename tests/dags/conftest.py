import pytest


@pytest.fixture(scope="session")
def database():
    """Airflow's own database, made in the tests' temporary home."""
    from airflow.utils.db import initdb

    initdb()
