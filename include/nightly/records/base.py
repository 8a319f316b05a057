"""The base class of all contracts: immutable, strict about unknown keys, and saved atomically."""

import re
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from nightly.io.atomic import write_atomically
from nightly.io.errors import UserError
from nightly.io.hints import did_you_mean

SCALAR = re.compile(r"constrained-\w+|literal\[.*\]")  # pydantic's tags of a union's members that are no model


class ContractError(UserError, ValueError):
    """A contract's text is not valid. The message names the file, the key, the value and the nearest valid one."""


class Contract(BaseModel):
    # Built on first use: a task, or the parse of a DAG file, needs two or three of the forty contracts.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    def save(self, path: Path) -> Path:
        """Write as JSON, atomically, and return the path."""
        write_atomically(path, (self.model_dump_json(indent=2) + "\n").encode())
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises FileNotFoundError, or ContractError with each bad key."""
        return cls.parse(Path(path).read_bytes(), where=str(path))

    @classmethod
    def parse(cls, data: bytes | str | dict[str, Any], *, where: str) -> Self:
        """Validate JSON text or plain data that came from `where`."""
        try:
            return cls.model_validate(data) if isinstance(data, dict) else cls.model_validate_json(data)
        except ValidationError as error:
            raise ContractError(explain(error, cls, where)) from None


def build_contracts(base: type[Contract] = Contract) -> None:
    """Build every imported contract now, so that the forks of this process need not."""
    for contract in base.__subclasses__():
        contract.model_rebuild()
        build_contracts(contract)


def explain(error: ValidationError, contract: type[BaseModel], where: str) -> str:
    """Return a line for each problem of `error`: the key, the value, what is allowed, and the nearest valid name."""
    lines = []
    for problem in error.errors():
        key = ".".join(_keys(contract, problem["loc"]))
        line = f"  {key}: {problem['msg']} (given: {problem['input']!r})"
        if problem["type"] == "missing":
            line = f"  {key}: it is required, and is not there"
        elif problem["type"] == "value_error":  # raised by a validator here, whose message includes the value
            line = f"  {key}: {problem['ctx']['error']}".replace("  : ", "  ")
        elif problem["type"] == "extra_forbidden":
            names = _names_at(contract, problem["loc"][:-1])
            line = f"  {key}: there is no such key" + did_you_mean(str(problem["loc"][-1]), names)
        elif problem["type"] == "literal_error":
            allowed = [part.strip(" '") for part in problem["ctx"]["expected"].replace(" or ", ",").split(",")]
            line += did_you_mean(str(problem["input"]), allowed)
        lines.append(line)
    return f"{where} is not valid:\n" + "\n".join(lines)


def _keys(contract: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the location as keys of the config, without the tags by which pydantic names a union's members."""
    keys = []
    for end, part in enumerate(location):
        candidates = _models_at(contract, location[:end])
        tags = [field.default for model in candidates for field in model.model_fields.values()]
        if not (part in tags and len(candidates) > 1) and not SCALAR.fullmatch(str(part)):
            keys.append(str(part))
    return keys


def _names_at(contract: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the valid keys of the section at `location`."""
    return sorted({name for model in _models_at(contract, location) for name in model.model_fields})


def _models_at(contract: type[BaseModel], location: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """Return the models that the section at `location` can be; a union's tag in the path selects the member."""
    candidates: list[type[BaseModel]] = [contract]
    for part in location:
        following: list[type[BaseModel]] = []
        for candidate in candidates:
            field = candidate.model_fields.get(str(part))
            if field is not None:
                following += _models_in(field.annotation)
            elif any(getattr(f, "default", None) == part for f in candidate.model_fields.values()):
                following.append(candidate)
        candidates = following or candidates
    return candidates


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]
