"""What is known of a source's parts and of local files that earlier nights have read."""

import datetime as dt

from pydantic import AwareDatetime

from nightly.records.base import Contract


class PartRecord(Contract):
    """A part of a source that a night has fetched."""

    name: str
    source: str  # a hash that identifies the source
    fingerprint: str  # "" if the source cannot tell whether the part has changed
    body: str  # a file's name; "" for a part without rows
    bytes: int
    sha256: str  # "" for a part without rows
    stamp: str = ""  # nightly.io.files.stamp of the body when it was hashed
    run_id: str  # of the night that fetched it
    fetched_at: AwareDatetime
    confirmed_at: AwareDatetime | None = None  # when the source last answered that the part has not changed
    replaces: AwareDatetime | None = None  # when the other rows were fetched that this body replaced

    @property
    def known_at(self) -> dt.datetime:
        """When the part was last known to be so at the source."""
        return self.confirmed_at or self.fetched_at


class LocalFile(Contract):
    """A local file that a night has hashed."""

    bytes: int
    sha256: str  # "" for a file that is gone
    stamp: str
    run_id: str = ""  # of the night that first read this content, or missed the file; "" in older records
    hashed_at: AwareDatetime | None = None  # when it did
    replaces: AwareDatetime | None = None  # when the other content was read that this one replaced, or that is gone


class LocalFiles(Contract):
    """The local files that a model's nights have read: path -> file."""

    files: dict[str, LocalFile] = {}
