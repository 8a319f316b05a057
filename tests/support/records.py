"""Records with every field filled in, of which a test names those that it is about."""

from typing import Any

from nightly.records.night import utc_now
from nightly.records.release import ReleaseRecord


def release_record(**fields: Any) -> ReleaseRecord:
    """Return a released version of taxi, with `fields` replaced."""
    default = {"model": "taxi", "version": 1480000000, "state": "released", "run_id": "tonight", "snapshot_id": "ab"}
    default |= {"code_version": "abc", "requested_by": "tests", "metrics": {}, "files": {}, "path": "/nowhere"}
    return ReleaseRecord(**default | {"previous_version": None, "released_at": utc_now()} | fields)
