"""A run's note has the verdict and, below it, what a person wrote."""

import pytest

from nightly.nights.report import NOTE_LIMIT
from nightly_airflow.note import RULE, replaced

VERDICT = "**! HELD_DATA: the snapshot has 943 rows; nothing is in production yet**"


@pytest.mark.parametrize("own", ["asked by the on-call", "**Do not clear this run**", f"one{RULE}two", "! HELD: why?"])
def test_a_persons_note_stays_below_each_verdict(own):
    for earlier in (own, replaced("**✕ FAILED: trainer failed**", own), replaced(VERDICT, replaced(VERDICT, own))):
        assert replaced(VERDICT, earlier) == f"{VERDICT}{RULE}{own}"


@pytest.mark.parametrize("earlier", ["", VERDICT, "**✓ RELEASED: version 1 of taxi is released**\n- a line"])
@pytest.mark.parametrize("text", [VERDICT, "**… WAITING: canary taxi 2: not clear yet**"])
def test_without_a_persons_note_only_the_verdict_is_there(earlier, text):
    assert replaced(text, replaced(text, earlier)) == text


@pytest.mark.parametrize("length", [1, 400, 900, 990, 1000])
def test_a_long_verdict_is_shortened_and_not_a_persons_note(length):
    verdict, own = f"**! HELD_DATA: {'x' * 480}**\n- {'y ' * 240}", "n" * length
    note = replaced(verdict, replaced(verdict, own))
    assert len(note) <= NOTE_LIMIT and note.endswith(own)
    assert note == own if length >= 990 else note.startswith("**! HELD_DATA: xxx")
    assert note.count("**") % 2 == 0, "what is bold is closed"
    assert replaced(VERDICT, note).endswith(own)


def test_the_texts_of_several_canaries_fit_into_one_note():
    text = "\n\n".join(f"**… WAITING: canary taxi {n}: {'x' * 600}**" for n in range(2))
    assert len(replaced(text, "")) <= NOTE_LIMIT
