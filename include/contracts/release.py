"""A release: which version, made of what, for whom, and what became of it."""

from typing import Any, Literal

from pydantic import AwareDatetime

from include.contracts.base import Contract


class ReleaseRecord(Contract):
    """Kept for every version that was ever given a number, in <releases>/<model>/<version>.json."""

    model: str
    version: int  # Unix seconds
    state: Literal["releasing", "released", "quarantined", "removed"]  # releasing: written ahead of the rename
    run_id: str
    snapshot_id: str
    code_version: str
    requested_by: str
    metrics: dict[str, float]
    files: dict[str, str]  # path inside the version -> sha256
    path: str
    previous_version: int | None
    released_at: AwareDatetime
    why: str = ""  # of a quarantine or removal
    details: dict[str, Any] = {}
