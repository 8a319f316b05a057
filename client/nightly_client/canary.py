"""Who gets the canary."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Canary:
    """A share of the callers, chosen by a hash of the caller.

    :param share: 0 to 1
    :param name: of the experiment. Another name chooses other callers, so that it is not always the same ones who
        meet what is new
    """

    share: float
    name: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"a share is 0 to 1, not {self.share}")

    def label(self, caller: str) -> str:
        """`canary` or `stable`: the same answer for the same caller, in every process."""
        digest = hashlib.sha256(f"{self.name}\0{caller}".encode()).digest()
        return "canary" if int.from_bytes(digest[:8]) < self.share * 2**64 else "stable"
