"""bin/new: models of tables in a lake."""

import io

import pyarrow.csv
import pytest
from deltalake import write_deltalake

from nightly.models import load_config
from nightly.new_model.creating import create, source_of
from nightly.new_model.proposal import Wishes
from nightly.new_model.questions import Questions
from nightly.records.connection import variable
from nightly.sources.cloud_credentials import store_options
from tests.nightly.new_model.data import rentals
from tests.support.s3_server import S3Server


@pytest.fixture
def new(tmp_path, monkeypatch):
    """Write a model of a source; return its config."""
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    models, dags = tmp_path / "models", tmp_path / "dags"
    models.mkdir(), dags.mkdir()

    def run(source):
        wishes = Wishes(label="returned_late")
        create("bikes", source, wishes, Questions(True), origin="the table", models=models, dags=dags)
        return load_config("bikes", models=models)

    return run


def table_of(rows):
    return pyarrow.csv.read_csv(io.BytesIO(rows.encode()))


def test_the_folder_of_a_delta_table_is_a_table(new, tmp_path):
    write_deltalake(str(tmp_path / "lake"), table_of(rentals(300)))
    source = new(source_of(str(tmp_path / "lake"))).source
    assert (source.kind, source.format, source.path) == ("table", "delta", str(tmp_path / "lake"))


def test_a_delta_table_in_a_bucket_is_a_table(new, monkeypatch):
    s3 = S3Server()
    try:
        connection = s3.connection()
        options = store_options(connection, "s3").for_delta()
        write_deltalake("s3://lake/rentals", table_of(rentals(300)), storage_options=options)
        monkeypatch.setenv(variable("lake"), connection.dump())
        source = new(source_of("s3://lake/rentals/", "lake")).source
        assert (source.kind, source.format, source.path) == ("table", "delta", "s3://lake/rentals/")
        assert source.connection == "lake"
    finally:
        s3.stop()
