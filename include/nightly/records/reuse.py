"""What a node's outputs were made of, and whether a night took over an earlier night's work."""

from pydantic import AwareDatetime

from nightly.records.base import Contract

REUSE = "{}.reuse.json"  # in the night's folder, for each task that can be spared


class Reuse(Contract):
    """Whether a task took over the work of an earlier run, and why, or why not."""

    task: str
    run_id: str = ""  # the run that did the work; "": this one
    as_of: AwareDatetime | None = None  # of that run
    reason: str


class CacheEntry(Contract):
    """The fingerprints of an execution's ingredients and outputs, stored with it in ML Metadata."""

    run_id: str  # the run that did the work
    as_of: AwareDatetime
    ingredients: dict[str, str]  # what -> its hash, as include/nightly/tfx/reuse.py names them
    outputs: dict[str, list[str]]  # output -> a hash of each artifact's files
