import pytest

from nightly.io.paths import Places


@pytest.fixture(scope="session")
def database():
    """Airflow's own database, made in the tests' temporary home."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def places(tmp_path, monkeypatch) -> Places:
    """Empty ones, for steps in the real ML environment, without a warm host and a model server."""
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("NIGHTLY_WARM", "0")
    places = Places.from_environment()
    if not places.ml_python.exists():
        pytest.skip("the ML environment is not set up")
    return places
