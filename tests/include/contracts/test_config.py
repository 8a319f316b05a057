"""A model's config is validated when it is read, and says what is wrong, where, and what was meant."""

import pytest

from include.contracts.base import ContractError
from include.contracts.config import load_config, model_names

GOOD = """
description = "a model"
[source]
path = "somewhere"
kind = "files"
[data]
id_columns = ["id"]
time_column = "day"
label = { column = "y", positive = ["1"] }
[model_gate.metrics]
auc = { floor = 0.6, max_drop = 0.02 }
"""


def write(models, text, name="mine"):
    (models / name).mkdir(exist_ok=True)
    (models / name / "config.toml").write_text(text)


def test_a_good_config_is_read_with_its_folder_as_name(tmp_path):
    write(tmp_path, GOOD)
    config = load_config("mine", tmp_path)
    assert config.name == "mine"
    assert config.data.eval_percent == 20
    assert config.model_gate.metrics["auc"].floor == 0.6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('kind = "files"', 'kind = "fils"'), ["source", "fils", "files"]),
        (('path = "somewhere"', 'pth = "somewhere"'), ["source.files.pth", "did you mean 'path'"]),
        (('time_column = "day"', 'time_colum = "day"'), ["data.time_colum", "did you mean 'time_column'"]),
        (("[model_gate.metrics]", "[data_gat]\n[model_gate.metrics]"), ["data_gat", "did you mean 'data_gate'"]),
        (("floor = 0.6", "flor = 0.6"), ["model_gate.metrics.auc.flor", "did you mean 'floor'"]),
        (("floor = 0.6", "ceiling = 0.6"), ["auc", "not a mix of both"]),
        (("floor = 0.6, max_drop = 0.02", ""), ["auc", "at least one of floor"]),
        (('id_columns = ["id"]', "eval_percent = 70"), ["data.eval_percent", "70", "data.id_columns", "required"]),
        (("[data]", "[data"), ["not TOML", "line"]),
        (("[data]", '[release]\ngcs = "s3://models"\n[data]'), ["release", "s3://models", "gs://BUCKET/PREFIX"]),
        (("[data]", '[release]\ngcs = "gs://models/"\n[data]'), ["release", "without a / at its end"]),
        (
            ("[data]", '[release.vertex]\nproject = "p"\nregion = "r"\nimage = "i"\n[data]'),
            ["release", "set release.gcs too"],
        ),
        (
            ("[data]", '[release.vertex]\nproject = "p"\nregoin = "r"\nimage = "i"\n[data]'),
            ["release.vertex.regoin", "did you mean 'region'"],
        ),
    ],
)
def test_a_bad_config_is_refused_with_the_place_and_the_nearest_valid_name(tmp_path, change, said):
    write(tmp_path, GOOD.replace(*change))
    with pytest.raises(ContractError) as error:
        load_config("mine", tmp_path)
    for words in said:
        assert words in str(error.value)
    assert str(tmp_path / "mine/config.toml") in str(error.value)


def test_an_unknown_model_is_refused_with_the_nearest_name(tmp_path):
    write(tmp_path, GOOD, "taxi")
    with pytest.raises(ContractError, match="did you mean 'taxi'"):
        load_config("taxy", tmp_path)


def test_overrides_replace_thresholds_for_one_run_and_are_validated(tmp_path):
    write(tmp_path, GOOD)
    config = load_config("mine", tmp_path)
    changed = config.with_overrides({"data_gate.min_rows": 10, "model_gate.metrics.auc.floor": 0.5, "drift.x": 0.4})
    assert changed.data_gate.min_rows == 10
    assert changed.model_gate.metrics["auc"].floor == 0.5
    assert config.data_gate.min_rows == 1000
    with pytest.raises(ContractError, match="did you mean 'min_rows'"):
        config.with_overrides({"data_gate.min_row": 10})
    with pytest.raises(ContractError, match="did you mean 'data_gate'"):
        config.with_overrides({"datagate.min_rows": 10})


def test_the_models_of_the_project_are_valid():
    assert {"complaints", "taxi"} <= set(model_names())
    for name in model_names():
        assert load_config(name).description
