"""A canary's comparison with the version in production: what is asked, each night's look, and how it ended."""

from typing import Literal

from pydantic import AwareDatetime

from nightly.records.base import Contract
from nightly.records.night import utc_now

Decision = Literal["promote", "stop", "wait"]


class CanaryRequest(Contract):
    """What a run of the comparison is asked for; canary.json in the run's folder."""

    model: str
    decision: Literal["auto", "promote", "stop"] = "auto"  # auto: as the comparison says; else a person has decided
    reason: str = ""
    requested_by: str
    run_id: str = ""  # the orchestrator's; "" for a command


class Side(Contract):
    """One of the two versions, and the predictions of it that can be compared."""

    version: int
    logged: int  # predictions, each id once
    labelled: int  # those of them whose label is known by now
    callers: int  # behind the logged ones
    loss: float | None = None  # mean Brier score of the labelled ones; None where there are none


class Look(Contract):
    """One look at the comparison, with all labels that were known then."""

    at: AwareDatetime
    run_id: str = ""
    stable: Side
    canary: Side
    # Loss of the canary less that of the stable version: above 0 the canary is worse. The interval is one of a
    # confidence sequence: all looks of a comparison together hold the true difference, but for a chance of `alpha`.
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    alpha: float
    margin: float
    labels: dict[str, int]  # source -> labels of logged predictions that it gave
    left_out: dict[str, int]  # why -> logged predictions that are not compared
    warnings: list[str] = []
    decision: Decision
    reason: str  # one sentence


class CanaryDecision(Contract):
    """A decision that another overruled before it was carried out."""

    decision: Literal["promote", "stop"]
    reason: str
    decided_by: str
    decided_at: AwareDatetime | None


class Comparison(Contract):
    """Kept in <releases>/<model>/canaries/<version>.json. The decision is written before it is carried out."""

    model: str
    version: int  # the canary
    stable: int
    share: float
    since: AwareDatetime
    looks: list[Look] = []  # one a run, oldest first
    decision: Literal["", "promote", "stop"] = ""  # "": it goes on
    reason: str = ""
    decided_by: str = ""  # a person, or `the comparison`
    decided_at: AwareDatetime | None = None
    earlier: list[CanaryDecision] = []  # overruled, oldest first
    baselines: list[str] = []  # the snapshots that are no controls for drift any more, after a stop
    done_at: AwareDatetime | None = None  # when the decision was carried out

    def decided(self, decision: Decision, reason: str, by: str) -> "Comparison":
        """With this decision; one that it overrules stays on record."""
        earlier = self.earlier
        if self.decision:
            names = CanaryDecision.model_fields
            earlier = [*earlier, CanaryDecision(**{name: getattr(self, name) for name in names})]
        new = {"decision": decision, "reason": reason, "decided_by": by, "decided_at": utc_now()}
        return self.model_copy(update={**new, "earlier": earlier})
