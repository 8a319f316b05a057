"""A model's config is validated when it is read, and says what is wrong, where, and what was meant."""

import datetime as dt

import pytest
from tensorflow_metadata.proto.v0 import schema_pb2

from nightly.models import load_config, model_names
from nightly.records import columns
from nightly.records.base import ContractError
from nightly.records.data_config import Data

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


@pytest.mark.parametrize("day", ["2016-03-01", '"2016-03-01"'])
def test_a_day_may_be_a_date_or_a_text(tmp_path, day):
    write(tmp_path, GOOD.replace('kind = "files"', f'kind = "files"\nended_on = {day}'))
    assert load_config("mine", tmp_path).source.ended_on == dt.date(2016, 3, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('kind = "files"', 'kind = "fils"'), ["source", "fils", "files"]),
        (('path = "somewhere"', 'pth = "somewhere"'), ["source.pth", "did you mean 'path'"]),
        (('time_column = "day"', 'time_colum = "day"'), ["data.time_colum", "did you mean 'time_column'"]),
        (("[model_gate.metrics]", "[data_gat]\n[model_gate.metrics]"), ["data_gat", "did you mean 'data_gate'"]),
        (("floor = 0.6", "flor = 0.6"), ["model_gate.metrics.auc.flor", "did you mean 'floor'"]),
        (("floor = 0.6", "ceiling = 0.6"), ["auc", "not a mix of both"]),
        (("floor = 0.6, max_drop = 0.02", ""), ["auc", "at least one of floor"]),
        (('id_columns = ["id"]', "eval_percent = 70"), ["data.eval_percent", "70", "data.id_columns", "required"]),
        (("[model_gate", "[training]\nsteps = true\n[model_gate"), ["training.steps", "valid integer", "True"]),
        (("floor = 0.6", 'floor = "0.6"'), ["auc.floor", "valid number", "'0.6'"]),
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
        (('positive = ["1"]', "positive = []"), ["data.label.positive", "name at least one value"]),
        (('positive = ["1"]', 'positive = ["1", "1"]'), ["data.label.positive", "'1' is listed more than once"]),
        (('positive = ["1"]', 'positive = ["1", " "]'), ["data.label.positive", "' ' is blank"]),
        (("[data]", '[schedule]\ntimezone = "Europe/Berlim"\n[data]'), ["there is no time zone", "'Europe/Berlin'"]),
        (("[data]", '[schedule]\ntimezone = "Mars"\n[data]'), ["schedule.timezone: there is no time zone 'Mars'"]),
        (("[data]", '[data]\ntime_format = "epoch"'), ["data.time_format", "did you mean 'epoch_s'"]),
        (("[data]", '[data]\ntime_format = "%Y-%m-%Q"'), ["data.time_format", "'Q' is a bad directive"]),
        (("[data]", '[data]\ntime_format = "%H:%M"'), ["data.time_format", "does not include year, month and day"]),
        (("[data]", '[data]\nignore = ["y"]'), ["data: ignore leaves the label 'y' out"]),
        (("[data]", '[data]\nignore = ["a", "a"]'), ["data.ignore: 'a' is listed more than once"]),
        (("[data]", '[data]\nrename = { A = "b", C = "b" }'), ["data: rename gives the name 'b' to more than one"]),
        (("[data]", '[data]\nrename = { day = "date" }'), ["no column has the name 'day'; write 'date'"]),
        (('["id"]', '["Trip ID"]'), ["no column has the name 'Trip ID'; write 'trip_id'"]),
        (('column = "y"', 'column = "day"'), ["'day' cannot be the label and the time_column"]),
        (("auc = {", "acu = {"), ["model_gate.metrics: there is no metric 'acu'", "did you mean 'auc'"]),
        (("auc = {", "recall_at_precision = {"), ["no metric 'recall_at_precision'", "mean 'recall_at_precision_90'"]),
        (("auc = {", "recall_at_precision_100 = {"), ["no metric 'recall_at_precision_100'"]),
        (
            (
                "[model_gate.metrics]\nauc = { floor = 0.6, max_drop = 0.02 }",
                "[model_gate]\nmust_beat_constant = false",
            ),
            ["model_gate: metrics is empty"],
        ),
        (("positive =", 'kind = "clases", positive ='), ["data.label", "'clases'", "classes"]),
        (("positive =", 'kind = "number", positive ='), ["data.label.positive: there is no such key", "transform"]),
        ((', positive = ["1"]', ', kind = "number"'), ["no metric 'auc' of a label of kind 'number'"]),
        (
            ("[model_gate.metrics]", "[model_gate.class_metrics]\nrecall = { floor = 0.5 }\n[model_gate.metrics]"),
            ["class_metrics", "'recall'", "'binary'"],
        ),
        (("[data]", '[data]\nweight_column = "y"'), ["'y' cannot be the weight_column too"]),
        (("[data]", '[data]\nweight_column = "w"\nignore = ["w"]'), ["ignore leaves the weights 'w' out"]),
        (("max_drop = 0.02", "max_drop = -0.02"), ["model_gate.metrics.auc.max_drop", "-0.02"]),
        (("floor = 0.6", "floor = nan"), ["model_gate.metrics.auc.floor", "finite"]),
        (("[data]", "[data_gate]\nmax_age_days = inf\n[data]"), ["data_gate.max_age_days", "finite"]),
        (("[data]", "[data_gate]\ncontrols = { production = nan }\n[data]"), ["controls.production", "finite"]),
        (
            ("[model_gate.metrics]", "[model_gate.slice_metrics]\nauc = { floor = 0.5 }\n[model_gate.metrics]"),
            ["slices"],
        ),
        (("[data]", "[training]\nsteps = 0\n[data]"), ["training.steps", "greater than or equal to 1"]),
        (("[data]", "[data]\nlook_back_days = -1"), ["data.look_back_days", "greater than or equal to 1"]),
        (("[data]", "[data]\nlook_back_days = 1000000"), ["data.look_back_days", "less than or equal to"]),
        (("[data]", "[training]\nrefit = true\n[data]"), ["training.refit", 'data.eval = "newest"']),
        (('path = "somewhere"', 'path = ""'), ["source.path", "at least 1 character"]),
        (('path = "somewhere"', ""), ["source.path: it is required"]),
        (
            ("[data]", "[training]\ngpus = -1\n[data]"),
            ["training.gpus: Input should be greater"],
        ),
        (('["id"]', '["id", "y"]'), ["the label 'y' cannot identify a row"]),
    ],
)
def test_a_bad_config_is_refused_with_the_place_and_the_nearest_valid_name(tmp_path, change, said):
    write(tmp_path, GOOD.replace(*change))
    with pytest.raises(ContractError) as error:
        load_config("mine", tmp_path)
    for words in said:
        assert words in str(error.value)
    assert str(tmp_path / "mine/config.toml") in str(error.value)


def test_files_that_are_not_utf_8_are_named_with_the_line_and_a_byte_order_mark_is_none(tmp_path):
    write(tmp_path, GOOD)
    file = tmp_path / "mine/config.toml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_config("mine", tmp_path)
    file.write_bytes(b"# a\n# caf\xe9\n" + GOOD.encode())
    with pytest.raises(ContractError, match=r"config\.toml, line 2, is not UTF-8"):
        load_config("mine", tmp_path)
    file.write_text(GOOD)
    (tmp_path / "mine/schema.pbtxt").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ContractError, match=r"schema\.pbtxt, line 1, is not UTF-8"):
        load_config("mine", tmp_path)


SCHEMA = """
feature { name: "id" type: BYTES }  # a { brace } in a comment, and one in "quotes"
feature { name: "day" type: BYTES presence { min_fraction: 1.0 } }
feature { name: "y" type: BYTES domain: "answers" }
feature { name: "amount" type: FLOAT float_domain { min: -1.5 } }
string_domain { name: "answers" value: "1" value: "0" }
default_environment: "TRAINING"
"""


def of_kind(kind):
    """Return the change of GOOD to a label of another kind, without the metrics of a binary one."""
    return GOOD[GOOD.index("label =") :], f'label = {{ column = "y", kind = "{kind}" }}'


@pytest.mark.parametrize(
    ("change", "schema_change", "said"),
    [
        (('["id"]', '["idd"]'), (), ["data.id_columns: 'idd' is not a feature", "did you mean 'id'"]),
        (('"day"', '"dayy"'), (), ["data.time_column: 'dayy' is not a feature", "did you mean 'day'"]),
        (('column = "y"', 'column = "yy"'), (), ["data.label.column: schema.pbtxt has no feature 'yy'", "'y'"]),
        (('positive = ["1"]', 'positive = ["one"]'), (), ["data.label.positive: y has no value 'one'", "0, 1"]),
        (
            ('positive = ["1"]', 'positive = ["yes"]'),
            ('BYTES domain: "answers"', "INT"),
            ["'yes' is not of type INT, which y has"],
        ),
        *(
            (
                ('positive = ["1"]', f'positive = ["{value}"]'),
                ('BYTES domain: "answers"', "FLOAT"),
                [f"data.label.positive: training reads y as float32, which rounds '{value}' to another number"],
            )
            for value in ("0.1", "16777217", "1e39", "nan")
        ),
        (("[model_gate.m", '[model_gate]\nslices = ["amout"]\n[model_gate.m'), (), ["no feature 'amout'", "'amount'"]),
        (("[model_gate.m", '[model_gate]\nslices = ["y"]\n[model_gate.m'), (), ["'y' is the label: slice by another"]),
        (
            ("[model_gate.m", '[model_gate]\nslices = ["amount"]\n[model_gate.m'),
            ("float_domain { min: -1.5 }", "value_count { min: 1 }"),
            ["model_gate.slices: 'amount' is a list in schema.pbtxt: slice by a single number or text"],
        ),
        (
            ("[model_gate.m", '[model_gate]\nslices = ["id"]\n[model_gate.m'),
            ('"id" type: BYTES', '"id" type: BYTES image_domain {}'),
            ["'id' is bytes in schema.pbtxt"],
        ),
        (
            (),
            (' domain: "answers"', " shape { dim { size: 2 } } presence { min_fraction: 1 }"),
            ["data.label.column: y is a list in schema.pbtxt, and must be one value a row"],
        ),
        (("[data]", '[model_gate]\nslices = ["amount"]\n[data]\nignore = ["amount"]'), (), ["'amount' is ignored"]),
        (of_kind("number"), (), ["data.label.kind: y is of type BYTES", "not a number"]),
        (
            of_kind("classes"),
            (' domain: "answers"', ""),
            ["data.label.classes: y has no domain of two classes or more", '"learned"'],
        ),
        (of_kind("classes"), ('BYTES domain: "answers"', "FLOAT"), ["y is of type FLOAT"]),
        *(
            (
                (GOOD[GOOD.index("label =") :], f'label = {{ column = "y", kind = "classes" }}\n{section}'),
                ('value: "0"', 'value: "0" value: "2" value: "3" value: "4"'),
                ["metrics: top_5_accuracy is always 1, as y has 5 classes in schema.pbtxt: bound another metric"],
            )
            for section in (
                "[model_gate.metrics]\ntop_5_accuracy = { floor = 0.9 }",
                '[model_gate]\nslices = ["amount"]\n[model_gate.slice_metrics]\ntop_5_accuracy = { floor = 0.9 }',
            )
        ),
        (of_kind("classes"), ('value: "0"', 'value: "(other)"'), ["data.label.classes: y has a class '(other)'"]),
        (("[data]", '[data]\nweight_column = "weigth"'), (), ["data.weight_column: schema.pbtxt has no feature"]),
        (("[data]", '[data]\nweight_column = "id"'), (), ["data.weight_column: id is of type BYTES"]),
        ((), ('name: "amount"', 'name: "self"'), ["data.rename: schema.pbtxt has a feature 'self'"]),
        ((), ('name: "amount"', 'nam: "amount"'), ["schema.pbtxt, line 5: a feature has no field 'nam'", "'name'"]),
        ((), ("string_domain", "strng_domain"), ["line 6: a schema has no field 'strng_domain'", "'string_domain'"]),
        ((), ("min: -1.5 } }", "min: -1.5 }"), ["is not a schema in text format", "no closing brace"]),
    ],
)
def test_a_config_that_contradicts_the_curated_schema_is_refused(tmp_path, change, schema_change, said):
    write(tmp_path, GOOD.replace(*change) if change else GOOD)
    (tmp_path / "mine/schema.pbtxt").write_text(SCHEMA.replace(*schema_change) if schema_change else SCHEMA)
    with pytest.raises(ContractError) as error:
        load_config("mine", tmp_path)
    for words in said:
        assert words in str(error.value)


CLASSES = 'y" type: INT int_domain { min: 1 max: 3 }'


@pytest.mark.parametrize(
    ("label", "metric", "y"),
    [
        ('kind = "binary", positive = ["1"]', "auc", 'y" type: BYTES domain: "answers"'),
        ('kind = "classes"', "macro_f1_score", 'y" type: BYTES domain: "answers"'),
        ('kind = "classes"', "accuracy", CLASSES),
        ('kind = "classes"', "top_2_accuracy", CLASSES),
        ('kind = "classes", classes = "learned"', "accuracy", 'y" type: INT'),
        ('kind = "number", transform = "log1p"', "mean_absolute_error", 'y" type: FLOAT'),
    ],
)
def test_each_kind_of_label_has_its_metrics_and_its_type(tmp_path, label, metric, y):
    write(tmp_path, GOOD.replace('positive = ["1"]', label).replace("auc", metric))
    (tmp_path / "mine/schema.pbtxt").write_text(SCHEMA.replace('y" type: BYTES domain: "answers"', y))
    config = load_config("mine", tmp_path)
    assert config.data.label.column == "y"
    assert config.model_gate.must_beat_constant


def test_classes_of_the_schema_are_its_domain(tmp_path):
    schema = columns.CuratedSchema(tmp_path, SCHEMA.replace('y" type: BYTES domain: "answers"', CLASSES))
    assert schema.classes("y") == ["1", "2", "3"]
    assert columns.CuratedSchema(tmp_path, SCHEMA).classes("y") == ["1", "0"]
    assert columns.CuratedSchema(tmp_path, SCHEMA).classes("id") == []


def test_a_config_that_fits_the_curated_schema_is_read(tmp_path):
    text = GOOD.replace("[model_gate.m", '[model_gate]\nslices = ["amount"]\n[model_gate.m')
    write(tmp_path, text.replace("[data]", '[data]\nignore = ["of_the_bank"]\nrename = { Bank = "of_the_bank" }'))
    (tmp_path / "mine/schema.pbtxt").write_text(SCHEMA)
    assert load_config("mine", tmp_path).model_gate.slices == ["amount"]


def test_the_fields_that_a_schema_may_have_are_tfdvs():
    assert set(columns.SCHEMA_FIELDS) == set(schema_pb2.Schema.DESCRIPTOR.fields_by_name)
    assert set(columns.FEATURE_FIELDS) == set(schema_pb2.Feature.DESCRIPTOR.fields_by_name)


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
    for bad in (-0.1, "0.1", float("nan"), True):
        with pytest.raises(ContractError, match="give a number, 0 or more"):
            config.with_overrides({"drift.x": bad})


def test_the_models_of_the_project_are_valid():
    assert {"complaints", "taxi"} <= set(model_names())
    for name in model_names():
        assert load_config(name).description


def test_equal_rows_are_kept_only_where_the_whole_row_is_the_id():
    data = {"id_columns": [], "time_column": "", "label": {"column": "y", "positive": ["1"]}, "equal_rows": "keep"}
    assert Data.model_validate(data).equal_rows == "keep"
    with pytest.raises(ValueError, match=r"id_columns = \['id'\]: of rows with one id only the last is kept"):
        Data.model_validate(data | {"id_columns": ["id"]})
