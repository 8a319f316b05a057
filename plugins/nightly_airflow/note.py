"""Writes a run's note from the texts of its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightly.canary.report import PENDING
from nightly.canary.report import SIGNS as CANARY_SIGNS
from nightly.nights.report import NOTE_LIMIT, SIGNS

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

NOTE_KEY = "note"  # the XCom whose text becomes the run's note
RULE = "\n\n---\n\n"  # between the verdict and a person's own note
OUTCOMES = (*(f"{sign} {outcome}" for outcome, sign in SIGNS.items()), *CANARY_SIGNS.values(), *PENDING.values())
BEGINNINGS = tuple(f"**{outcome}:" for outcome in OUTCOMES)  # of the tasks' texts
LEAST = 30  # characters of a text that still say the outcome


def write_note(dag_run: DagRun) -> None:
    """Write the texts of the run's tasks as its note, which the list of runs shows; a person's own note stays.

    A night has one text, its verdict; the DAG `canary` has one for each model.
    """
    from airflow.models.xcom import XComModel
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    query = XComModel.get_many(run_id=dag_run.run_id, dag_ids=dag_run.dag_id, key=NOTE_KEY)
    xcoms = session.scalars(query).all() if session else []
    if xcoms:
        texts = sorted(XComModel.deserialize_value(xcom) for xcom in xcoms)
        dag_run.note = replaced("\n\n".join(texts), dag_run.note or "")


def replaced(text: str, note: str) -> str:
    """Return a run's note with this text in place of an earlier one, above a person's own note.

    The own note stays whole. If both are too long for Airflow's database, the text is shortened: the task has it in
    full. Beside an own note that leaves no room, there is no text.
    """
    own_note = note.partition(RULE)[2] if note.startswith(BEGINNINGS) else note
    below = f"{RULE}{own_note}" if own_note else ""
    room = NOTE_LIMIT - len(below)
    return _shortened(text, room) + below if room >= LEAST else own_note


def _shortened(text: str, room: int) -> str:
    """Return Markdown in at most `room` characters; what is bold stays closed."""
    if len(text) <= room:
        return text
    cut = text[: room - len(" …**")].rstrip("* \n")
    return f"{cut} …**" if cut.count("**") % 2 else f"{cut} …"
