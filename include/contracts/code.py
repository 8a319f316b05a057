"""Which code ran: for the records of a night."""

import os
import subprocess

from include.contracts.places import ROOT


def code_version() -> str:
    """The project's commit, with `+changes` when its files differ; NIGHTLY_CODE_VERSION says it where git cannot."""
    if said := os.environ.get("NIGHTLY_CODE_VERSION"):
        return said
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):  # no git, no repository, no commit, or one of another user
        return "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()
