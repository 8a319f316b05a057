"""Set up the environments: `python3 -m setup [airflow] [ml] [dev] [lint] [docs] [slim]`, or `python3 -m setup lock`.

airflow  .venv/airflow from requirements.txt
ml       .venv/ml from requirements-ml.txt, with a private C runtime where the system's is too old
dev      requirements-dev.txt on top of those two
lint     .venv/lint from requirements-lint.txt
docs     .venv/docs from requirements-docs.txt
slim     without files that no night reads, for an image
lock     write the requirements files from pyproject.toml

This needs only the standard library. An environment that is up to date is left as it is.
"""

import sys

from setup import environments
from setup.errors import SetupError
from setup.slim import slim


def main(arguments: list[str]) -> int:
    unknown = set(arguments) - {*environments.LOCKS, "slim", "lock"}
    if unknown or not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        environments.check_machine()
        if "lock" in arguments:
            environments.lock()
            return 0
        names = [name for name in ("airflow", "ml", "lint", "docs") if name in arguments]
        environments.prepare(names)
        for name in names:
            environments.install(name, with_dev="dev" in arguments)
            if "slim" in arguments:
                slim(environments.VENVS / name)
                environments.prove(name)
    except SetupError as error:
        print(f"\nset-up stopped: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
