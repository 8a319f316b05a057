"""The split of callers between the canary and the stable version."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Canary:
    """A share of the callers, chosen by a hash of the caller.

    :param share: 0 to 1
    :param name: the experiment's name. A new name chooses other callers, so the same ones do not get every canary
    """

    share: float
    name: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"a share is 0 to 1, not {self.share}")

    def label(self, caller: str) -> str:
        """Return `canary` or `stable`: the same label for the same caller, in every process."""
        digest = hashlib.sha256(f"{self.name}\0{caller}".encode()).digest()
        return "canary" if int.from_bytes(digest[:8]) < self.share * 2**64 else "stable"
