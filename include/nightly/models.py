"""The models' folders, include/models/NAME: their config.toml and their curated schema.pbtxt."""

import datetime as dt
import tomllib
from pathlib import Path

from pydantic import ValidationError

from nightly.io.hints import did_you_mean
from nightly.io.paths import MODELS
from nightly.records.base import ContractError, explain
from nightly.records.columns import CuratedSchema, misnamed
from nightly.records.config import ModelConfig
from nightly.records.night import Night


def model_names(models: Path = MODELS) -> list[str]:
    """Return the names of all models: the folders with a config.toml."""
    return sorted(path.parent.name for path in models.glob("*/config.toml"))


def load_config(name: str, models: Path = MODELS) -> ModelConfig:
    """Read and validate include/models/NAME/config.toml. Raises ContractError with every problem in it.

    If there is a curated schema, the columns that the config names must be in it.
    """
    path = models / name / "config.toml"
    if not path.exists():
        names = model_names(models)
        raise ContractError(f"there is no model {name!r}: {path} does not exist" + did_you_mean(name, names))
    try:
        data = tomllib.loads(_read(path).removeprefix("\ufeff"))  # some editors write a byte order mark
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"{path} is not TOML: {error}") from None
    try:
        config = ModelConfig.model_validate({"name": name, **data})
    except ValidationError as error:
        raise ContractError(explain(error, ModelConfig, str(path))) from None
    schema = path.with_name("schema.pbtxt")
    if schema.exists() and (wrong := misnamed(config, CuratedSchema(schema, _read(schema)))):
        raise ContractError("\n  ".join([f"{path} is not valid:", *wrong]))
    return config


def config_of(night: Night) -> ModelConfig:
    """Return the config of the night's model, with the night's overrides."""
    return load_config(night.model).with_overrides(night.overrides)


def window_end(night: Night) -> dt.datetime:
    """Return the end of the night's window (exclusive): the as-of time minus `data.late_days`."""
    return night.as_of - dt.timedelta(days=load_config(night.model).data.late_days)


def read_schema_text(config: ModelConfig) -> CuratedSchema:
    """Read the model's curated schema. Raises ContractError if there is none."""
    path = config.folder / "schema.pbtxt"
    if not path.exists():
        raise ContractError(
            f"{path} is missing, and a night checks its data against it: infer one from data with "
            f"`bin/data schema infer DATA --model {config.name} --out {path}`, and read it through"
        )
    return CuratedSchema(path, _read(path))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ContractError(f"{path}, line {line}, is not UTF-8: save the file as UTF-8") from None
