"""A canary's comparison with the version in production: the request, each night's look, and the decision."""

from typing import ClassVar, Literal

from pydantic import AwareDatetime

from nightly.records.base import Contract
from nightly.records.night import utc_now

Decision = Literal["promote", "stop", "wait"]
COMPARISON = "the comparison"  # `decided_by`, where no person has decided


class CanaryRequest(Contract):
    """The request to a run of the comparison."""

    FILE: ClassVar = "canary.json"  # in the run's folder

    model: str
    decision: Literal["auto", "promote", "stop"] = "auto"  # auto: the comparison decides; else a person has decided
    reason: str = ""
    requested_by: str
    run_id: str = ""  # the orchestrator's; "" for a command


class Side(Contract):
    """One of the two versions, and its predictions that can be compared."""

    version: int
    logged: int  # logged predictions, counted once an id
    labelled: int  # logged predictions with a known label
    callers: int  # distinct callers of the logged predictions
    loss: float | None = None  # mean loss of the labelled predictions, from 0 to 1; None if there are none


class Look(Contract):
    """One evaluation of the comparison, with all labels known at that time."""

    FILE: ClassVar = "look.json"  # in the run's folder

    at: AwareDatetime
    run_id: str = ""
    stable: Side
    canary: Side
    loss: str = "Brier score"  # its name; older looks lack it, and are of binary labels
    # The canary's loss minus the stable version's: above 0 the canary is worse. The interval belongs to a confidence
    # sequence: the intervals of all looks contain the true difference, except with probability `alpha`.
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    alpha: float
    margin: float
    labels: dict[str, int]  # source -> number of labels from it, for logged predictions
    left_out: dict[str, int]  # reason -> number of logged predictions that are not compared
    warnings: list[str] = []
    decision: Decision
    reason: str  # one sentence


class CanaryDecision(Contract):
    """A decision that a later one replaced before it was carried out."""

    decision: Literal["promote", "stop"]
    reason: str
    decided_by: str
    decided_at: AwareDatetime | None


class Comparison(Contract):
    """<releases>/<model>/canaries/<version>.json. The decision is written before it is carried out."""

    model: str
    version: int  # the canary
    stable: int
    share: float
    since: AwareDatetime
    looks: list[Look] = []  # one a run, oldest first
    decision: Literal["", "promote", "stop"] = ""  # "": not decided yet
    reason: str = ""
    decided_by: str = ""  # a person, or COMPARISON
    decided_at: AwareDatetime | None = None
    earlier: list[CanaryDecision] = []  # replaced decisions, oldest first
    baselines: list[str] = []  # the snapshots that a stop removed from the controls for drift
    done_at: AwareDatetime | None = None  # when the decision was carried out

    @property
    def why(self) -> str:
        """The reason, and the person who decided, if any."""
        return self.reason if self.decided_by == COMPARISON else f"{self.reason} (decided by {self.decided_by})"

    def decided(self, decision: Decision, reason: str, by: str) -> "Comparison":
        """Return a copy with this decision; a decision that it replaces moves to `earlier`."""
        earlier = self.earlier
        if self.decision:
            names = CanaryDecision.model_fields
            earlier = [*earlier, CanaryDecision(**{name: getattr(self, name) for name in names})]
        new = {"decision": decision, "reason": reason, "decided_by": by, "decided_at": utc_now()}
        return self.model_copy(update={**new, "earlier": earlier})
