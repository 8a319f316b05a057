"""What is known of a part that a night has fetched from a source."""

from pydantic import AwareDatetime

from nightly.records.base import Contract


class PartRecord(Contract):
    name: str
    source: str  # identifies the source
    fingerprint: str  # "" if the source cannot tell whether the part has changed
    body: str  # a file's name; "" for a part without rows
    bytes: int
    sha256: str  # "" for a part without rows
    run_id: str  # of the night that fetched it
    fetched_at: AwareDatetime
