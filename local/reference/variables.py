"""docs/reference/variables.md: every environment variable, from nightly.io.variables and .env.example."""

from collections.abc import Iterator

from local.reference.markdown import table
from nightly.io import variables
from nightly.io.paths import ROOT

HEAD = """# Environment variables

All of them are optional. An empty variable counts as not set. `docker-compose.yaml` and `make` set
those that differ there.
"""
BELOW_VAR = "`{}` in `NIGHTLY_VAR`"
AIRFLOW = """## Airflow

Airflow's own variables work as usual. `airflow.env` contains the settings that this project changes; `bin/airflow` and
`docker-compose.yaml` read it. A setting that is already in the environment takes precedence.
"""
COMPOSE = """## docker compose

`docker-compose.yaml` reads these from `.env`: copy `.env.example`, and fill in what is required.
"""


def page() -> str:
    """Return the page's text."""
    return "\n".join(
        [HEAD, *_groups(), AIRFLOW, COMPOSE, table(["variable", "default", "meaning"], _of_compose()) + "\n"]
    )


def _groups() -> Iterator[str]:
    below_var = variables.FOLDER_VARIABLES.values()
    for title, group in variables.GROUPS.items():
        rows = [
            [
                f"`{variable.name}`",
                BELOW_VAR.format(variable.default) if variable in below_var else _code(variable.default),
                variable.description,
            ]
            for variable in group
        ]
        yield f"## {title}\n\n" + table(["variable", "default", "meaning"], rows) + "\n"


def _code(default: str) -> str:
    return f"`{default}`" if default else ""


def _of_compose() -> Iterator[list[str]]:
    """Yield the name, default and meaning of each variable in .env.example; the meaning is the comment above it."""
    comment: list[str] = []
    commented = False
    for line in (ROOT / ".env.example").read_text().splitlines():
        name, equals, value = line.partition("=")
        if line.startswith("#"):
            comment = [*comment, line.strip("# ")] if commented else [line.strip("# ")]
            commented = True
        elif equals:
            yield [f"`{name}`", _code(value) or "required", " ".join(comment)]
            commented = False
        else:
            comment, commented = [], False
