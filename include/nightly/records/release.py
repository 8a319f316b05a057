"""A release: which version, made of what, for whom, and what became of it."""

from typing import Any, Literal

from pydantic import AwareDatetime, model_validator

from nightly.records.base import Contract


class Verification(Contract):
    """What a model server answered for a version, before that was put into production."""

    server: str  # the address that was asked
    golden_examples: int  # asked over REST and over gRPC
    largest_difference: float  # of a probability, from the prediction made offline
    tolerance: float
    p99_ms: float  # of single requests over gRPC
    previous_p99_ms: float | None  # of the version before, in the same minutes; None where there was none
    seconds: float  # from the first look until the version was AVAILABLE
    verified_at: AwareDatetime


class ReleaseRecord(Contract):
    """Kept for every version that was ever given a number, in <releases>/<model>/<version>.json."""

    model: str
    version: int  # Unix seconds
    # releasing: written ahead of the rename. verifying: it has its number, and the model server is being asked.
    # canary: verified, and served to the callers of the label `canary` only. released: in production, or was.
    # unverified: out of sight since the server could not be asked; the same files get their number back in a retry.
    state: Literal["releasing", "verifying", "unverified", "canary", "released", "quarantined", "removed"]
    run_id: str
    snapshot_id: str
    code_version: str
    requested_by: str
    metrics: dict[str, float]
    files: dict[str, str]  # path inside the version -> sha256
    path: str
    recipe: str = ""  # of include/nightly/tfx/recipe.py: what it was made of; "" in records of older versions
    previous_version: int | None
    released_at: AwareDatetime  # of a canary: when it got that label, until it is promoted
    why: str = ""  # of a quarantine or removal, or that it is unverified
    server: str = ""  # the model server that must verify it; "": none was configured, only its files are verified
    verification: Verification | None = None  # None until, or unless, a model server has verified it
    canary_share: float | None = None  # of the callers, that it goes to first; None: it goes to all at once
    canary_since: AwareDatetime | None = None
    details: dict[str, Any] = {}
    removed_from: str = ""  # the state that it had before it was removed

    @property
    def taken_back(self) -> bool:
        """Whether a rollback, a person or the verification has quarantined it; it may have been removed since."""
        return "quarantined" in (self.state, self.removed_from)

    @model_validator(mode="before")
    @classmethod
    def _removed_from(cls, data: Any) -> Any:
        """Records of older versions have the state before the removal in the reason only."""
        if isinstance(data, dict) and data.get("state") == "removed" and "removed_from" not in data:
            state = str(data.get("why", "")).partition(":")[0]
            return {**data, "removed_from": state if state in ("quarantined", "unverified") else "released"}
        return data


NOT_RELEASED = "not_released.json"


class NotReleased(Contract):
    """Why a night that both gates let through makes no release; not_released.json in its folder."""

    reason: str  # as part of a sentence
    withdrawn: int | None = None  # its model is this version, which was taken back: the night is held
    decided_at: AwareDatetime


class Machine(Contract):
    """Who releases: everybody who shares one folder of release records. <releases>/machine.json."""

    id: str
    host: str  # where it was made
    folder: str  # of the records


class Owner(Contract):
    """Whose releases a bucket holds; nobody else's go there."""

    machine: Machine
    by: str  # a person, or `its first release`
    reason: str = ""
    since: AwareDatetime


class Releases(Contract):
    """What is released in a bucket (include/nightly/release/google_cloud/gcs.py), oldest first; the last is current."""

    model: str
    releases: list[ReleaseRecord]
    owners: list[Owner] = []  # the last is the owner; [] in indexes of older versions


class Rollback(Contract):
    """A return to an earlier version: asked for, resolved before anything is done, and what came of it.

    Kept in <releases>/<model>/rollbacks/<Unix seconds>.json.
    """

    model: str
    version: int | None = None  # to go back to; None: the one before, until that is resolved
    previous: bool = False  # the one before was asked for, whatever its number
    reason: str
    requested_by: str
    run_id: str = ""  # the orchestrator's; "" for a command
    from_version: int | None = None
    withdrawn: list[int] = []  # the versions that were newer: quarantined
    baselines: list[str] = []  # the snapshots that are no controls for drift any more
    server: str = ""  # the model server that confirmed it; "": none is configured
    done_at: AwareDatetime | None = None
