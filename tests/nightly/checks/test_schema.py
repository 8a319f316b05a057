"""A comparator that would measure nothing is refused where the schema is read, with what to write instead."""

import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.models import load_config, model_names
from nightly.schemas.curated import SchemaError, read_schema


def schema_of(tmp_path, kind, comparator):
    path = tmp_path / "schema.pbtxt"
    path.write_text(f'feature {{ name: "pay" type: {kind} drift_comparator {{ {comparator} }} }}')
    return path


@pytest.mark.parametrize(
    ("kind", "comparator", "words"),
    [
        ("FLOAT", "infinity_norm { threshold: 0.1 }", r"pay: drift_comparator has infinity_norm, but pay is a number"),
        (
            "INT",
            "infinity_norm { threshold: 0.1 }",
            r"write drift_comparator \{ jensen_shannon_divergence \{ threshold",
        ),
        (
            "BYTES",
            "jensen_shannon_divergence { threshold: 0.1 }",
            r"pay is text.*write drift_comparator \{ infinity_norm",
        ),
        ("BYTES", "", "drift_comparator is empty"),
    ],
)
def test_a_comparator_that_does_not_fit_is_refused(tmp_path, kind, comparator, words):
    with pytest.raises(SchemaError, match=words):
        read_schema(schema_of(tmp_path, kind, comparator))


def test_tfdv_itself_says_that_all_is_well(tmp_path):
    """Why it is refused: every value has changed, and the distance is 0."""
    import pandas as pd

    one, other = (tfdv.generate_statistics_from_dataframe(pd.DataFrame({"pay": [v] * 300})) for v in (1.0, 9.0))
    text = schema_of(tmp_path, "FLOAT", "infinity_norm { threshold: 0.1 }").read_text()
    found = tfdv.validate_statistics(other, text_format.Parse(text, schema_pb2.Schema()), previous_statistics=one)
    assert found.drift_skew_info[0].drift_measurements[0].value == 0


@pytest.mark.parametrize("name", model_names())
def test_the_schemas_of_the_models_fit(name):
    assert read_schema(load_config(name).folder).feature


def test_text_that_is_no_schema_is_refused(tmp_path):
    (tmp_path / "schema.pbtxt").write_text("feature {")
    with pytest.raises(SchemaError, match=r"schema\.pbtxt is not a schema in text format"):
        read_schema(tmp_path)
