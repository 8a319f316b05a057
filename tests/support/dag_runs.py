"""What a run of a DAG came to."""

from nightly.records.tasks import REVIEW


def skipped(states: dict[str, str]) -> set[str]:
    """Without the review of the schema: only a night that waits for a person has it."""
    return {task for task, state in states.items() if state == "skipped"} - {*REVIEW}


def told(slack) -> str:
    [(_, body)] = slack
    return "\n".join(block["text"]["text"] for block in body["blocks"])
