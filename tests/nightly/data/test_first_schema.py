"""The first schema of a model leaves out of requests what no client can know."""

import pandas as pd
import tensorflow_data_validation as tfdv

from nightly.data.schemas import first_schema
from nightly.records.config import ModelConfig
from nightly.training.export import serving_features


def test_neither_the_label_nor_the_weight_is_part_of_a_request():
    rows = pd.DataFrame({"fare": [5.0, 7.5], "city": ["A", "B"], "weight": [1.0, 2.0], "day": [1, 2]})
    data = {"id_columns": [], "time_column": "day", "label": {"kind": "number", "column": "fare"}}
    source = {"kind": "files", "path": "x"}
    config = ModelConfig.parse(
        {"name": "m", "description": "", "source": source, "data": data | {"weight_column": "weight"}}, where="test"
    )
    schema = first_schema(tfdv.generate_statistics_from_dataframe(rows), config)
    excluded = {feature.name for feature in schema.feature if "SERVING" in feature.not_in_environment}
    assert excluded == {"fare", "weight"}
    assert not {"fare", "weight"} & set(serving_features(schema))
