"""The base of all sections of config.toml."""

from typing import Annotated

from pydantic import ConfigDict, Field

from nightly.records.base import Contract

Days = Annotated[int, Field(ge=1, le=36_500)]


class Section(Contract):
    """A section of the config. The docstring below each key goes into docs/reference/config.md.

    Pydantic could read these docstrings too, but it would parse the source at each import.
    """

    # TOML has types: "1" is no number, and `true` is not 1. It has nan and inf, too; as a bound they let anything pass.
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


def without_repeats(names: list[str]) -> list[str]:
    """Return `names`, or raise ValueError if one of them repeats."""
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{min(repeated)!r} is listed more than once: list it once")
    return names
