"""A fault campaign over whole nights: make chaos ARGS="--seed 1 --faults 100"

Copies the project to a folder of its own and runs tests/chaos/campaign.py there, which prints as it goes and writes
report.md and report.json. Ends with 0 if every invariant held, with 1 if one was violated, with 2 if the campaign
itself broke.
"""

import os
import shutil
import subprocess
import sys

from nightly.io.code import code_version
from nightly.io.paths import python_path
from tests.chaos.project import copy_project
from tests.chaos.settings import Settings

ASIDE = ("AIRFLOW", "NIGHTLY_", "PYTHONPATH", "CHAOS_")  # begins what would lead the copy back to this project


def main() -> int:
    settings = Settings.parse()
    shutil.rmtree(settings.home, ignore_errors=True)
    settings.home.mkdir(parents=True)
    project = copy_project(settings.home.resolve() / "project")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ASIDE)}
    command = [sys.executable, "-m", "local.child"]  # which ends all that was started, however this process ends
    own_mounts = _own_mounts(settings)
    command += [*own_mounts, sys.executable, "-m", "tests.chaos.campaign", *settings.arguments()]
    environment |= {"PYTHONPATH": python_path(project), "PYTHONUNBUFFERED": "1", "CHAOS_CODE": code_version()}
    environment |= {"CHAOS_OWN_MOUNTS": "yes"} if own_mounts else {}
    child = subprocess.Popen(
        command,
        cwd=project,
        env=environment,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        return child.wait()
    finally:
        child.stdin.close()
        child.wait()


def _own_mounts(settings: Settings) -> list[str]:
    """The words before a command that let it mount a small disk which nobody else sees, or none."""
    as_root = ["unshare", "--mount"]
    as_user = ["unshare", "--user", "--map-root-user", "--mount"]
    choices = [as_root] if os.geteuid() == 0 else [] if settings.postgresql else [as_user]
    for words in choices:  # PostgreSQL refuses to run as a user that only seems to be root
        if shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True).returncode == 0:
            return words
    return []


if __name__ == "__main__":
    sys.exit(main())
