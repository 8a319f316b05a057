"""The records of releases, their verification, ownership and rollback."""

import datetime as dt
from typing import Any, ClassVar, Literal

from pydantic import AwareDatetime, model_validator

from nightly.records.base import Contract

SHOWN = 3  # columns in a message
JUDGED = "assets.extra/judged"  # in a version that was trained again on all rows: the SavedModel that was judged


class Split(Contract):
    """How rows are divided into the train and the eval split."""

    eval: Literal["hash", "newest"]
    columns: list[str]  # those that are hashed, or the time column
    eval_percent: int

    def holds_out(self, later: "Split") -> bool:
        """Return whether a model trained with this split has not seen the eval rows of a later night's.

        With the same columns, a smaller eval split is part of a larger one.
        """
        same = (self.eval, self.columns) == (later.eval, later.columns)
        return same and later.eval_percent <= self.eval_percent

    @property
    def described(self) -> str:
        more = f" and {len(self.columns) - SHOWN} more" if len(self.columns) > SHOWN else ""
        columns = ", ".join(self.columns[:SHOWN]) + more
        how = "by a hash of" if self.eval == "hash" else "of the newest days by"
        return f"{self.eval_percent} % {how} {columns}"


class Verification(Contract):
    """The result of verifying a version with a model server, before it goes into production."""

    server: str  # its address
    golden_examples: int  # each requested over REST and over gRPC
    largest_difference: float  # between a served probability and its golden prediction
    tolerance: float
    p99_ms: float  # of single requests over gRPC
    previous_p99_ms: float | None  # of the previous version, measured in the same minutes; None if there is none
    seconds: float  # from the first status request until the version was AVAILABLE
    verified_at: AwareDatetime


class Origin(Contract):
    """Where a version comes from: the night that trained it, and what that night used and measured."""

    run_id: str
    snapshot_id: str
    code_version: str
    requested_by: str
    metrics: dict[str, float]  # on the eval split
    recipe: str = ""  # the fingerprint of its inputs (include/nightly/tfx/recipe.py); "" in records of older versions
    split: Split | None = None  # that it was trained with; None in records of older versions


class ReleaseRecord(Origin):
    """<releases>/<model>/<version>.json, for every version that ever had a number."""

    FILE: ClassVar = "release.json"  # in the folder of the night that released it

    model: str
    version: int  # Unix seconds
    # releasing: the record is written, the rename follows. verifying: the version has its number; the model server
    # verifies it. canary: verified, and served to callers of the label `canary` only. released: is or was in
    # production. unverified: moved out of the serving volume, as the server did not answer; a retry moves it back.
    state: Literal["releasing", "verifying", "unverified", "canary", "released", "quarantined", "removed"]
    files: dict[str, str]  # path inside the version -> sha256
    path: str
    previous_version: int | None
    released_at: AwareDatetime  # for a canary until its promotion: when it became the canary
    why: str = ""  # the reason for the quarantine, the removal, or the state `unverified`
    server: str = ""  # the model server that must verify it; "" if none is configured and only the files are verified
    verification: Verification | None = None  # None unless a model server has verified it
    canary_share: float | None = None  # the canary's share of the callers; None if it went to all at once
    canary_since: AwareDatetime | None = None
    details: dict[str, Any] = {}
    removed_from: str = ""  # its state before the removal

    @property
    def taken_back(self) -> bool:
        """Whether a rollback, a person or the verification quarantined it, even if it has been removed since."""
        return "quarantined" in (self.state, self.removed_from)

    @property
    def refitted(self) -> bool:
        """Whether it was trained again on all rows, after the gate had judged the model that is in JUDGED."""
        return any(path.startswith(f"{JUDGED}/") for path in self.files)

    @model_validator(mode="before")
    @classmethod
    def _removed_from(cls, data: Any) -> Any:
        """Fill `removed_from` in records of older versions, which have it only in the reason."""
        if isinstance(data, dict) and data.get("state") == "removed" and "removed_from" not in data:
            state = str(data.get("why", "")).partition(":")[0]
            return {**data, "removed_from": state if state in ("quarantined", "unverified") else "released"}
        return data


class NotReleased(Contract):
    """Why a night that passed both gates makes no release."""

    FILE: ClassVar = "not_released.json"  # in the night's folder

    reason: str  # as part of a sentence
    withdrawn: int | None = None  # the quarantined version with the same model: the night is held
    decided_at: AwareDatetime


class Machine(Contract):
    """The identity of a folder of release records, whoever uses it."""

    FILE: ClassVar = "machine.json"  # in <releases>

    id: str
    host: str  # that created it
    folder: str  # of the records


class Owner(Contract):
    """The only machine whose releases go to a bucket."""

    machine: Machine
    by: str  # a person, or `its first release`
    reason: str = ""
    since: AwareDatetime


class Releases(Contract):
    """A bucket's releases, oldest first; the last is current (include/nightly/release/google_cloud/gcs.py)."""

    model: str
    releases: list[ReleaseRecord]
    owners: list[Owner] = []  # the last is the owner; [] in indexes of older versions


class Rollback(Contract):
    """A return to an earlier version: the request, its resolved target, and the result.

    FILE in the run's folder and, once production has changed, <releases>/<model>/rollbacks/<Unix seconds>-<from>.json.
    """

    FILE: ClassVar = "rollback.json"

    model: str
    version: int | None = None  # the target; None until `previous` is resolved to a version
    previous: bool = False  # whether the previous version was requested, and not a number
    reason: str
    requested_by: str
    run_id: str = ""  # the orchestrator's; "" for a command
    from_version: int | None = None
    withdrawn: list[int] = []  # the newer versions, now quarantined
    baselines: list[str] = []  # the snapshots that this removed from the controls for drift
    server: str = ""  # the model server that confirmed it; "" if none is configured, or it has not yet
    began_at: AwareDatetime | None = None  # when the target was resolved; None in records of older versions
    done_at: AwareDatetime | None = None  # None until the server and the other targets have it

    @property
    def at(self) -> dt.datetime | None:
        return self.done_at or self.began_at
