"""Cache entries of a node's outputs, and whether a night reused an earlier night's work."""

from typing import ClassVar

from pydantic import AwareDatetime

from nightly.records.base import Contract


class Reuse(Contract):
    """Whether a task reused the work of an earlier run, and why."""

    FILE: ClassVar = "{}.reuse.json"  # of the task, in the night's folder

    task: str
    run_id: str = ""  # the earlier run; "" if this run did the work
    as_of: AwareDatetime | None = None  # of the earlier run
    reason: str


class CacheEntry(Contract):
    """The fingerprints of an execution's ingredients and outputs, stored with it in ML Metadata."""

    run_id: str  # the run that did the work
    as_of: AwareDatetime
    ingredients: dict[str, str]  # input -> its hash, named as in include/nightly/tfx/reuse.py
    outputs: dict[str, list[str]]  # output -> a hash of each artifact's files
