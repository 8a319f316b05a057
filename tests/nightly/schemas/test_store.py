"""Versions of a schema: only a person makes one, on the schema of today, with a reason; and editing git ends them."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from nightly.records.night import Night
from nightly.records.schema import SchemaReview
from nightly.schemas.reviews import set_aside_review
from nightly.schemas.store import SchemaStore, SchemaVersionError, answer


def test_without_an_approval_the_curated_schema_holds(bench):
    bench.propose("b")
    assert (bench.store.current(), bench.store.versions(), bench.store.note(0)) == (0, [], "")
    assert bench.store.path(0) == bench.store.curated


def test_an_approved_version_holds_and_says_who_and_why(bench):
    proposal = bench.proposal("b")
    version = bench.store.approve(proposal, by="ann", reason="a new  meter\n")
    assert (version.version, version.base_version, bench.store.current()) == (1, 0, 1)
    assert bench.store.text(1) == proposal.text
    assert bench.store.note(1) == "version 1 (approved by ann: a new meter)"
    assert bench.store.version(1).diff == "+b"


def test_a_second_approval_builds_on_the_first(bench):
    bench.store.approve(bench.proposal("b"), by="ann", reason="one")
    second = bench.store.approve(bench.proposal("c", run="second"), by="bob", reason="two")
    assert (second.version, second.base_version) == (2, 1)
    assert bench.store.text(2).endswith("b\nc\n")
    assert second.curated_sha256 == bench.store.version(1).curated_sha256


def test_approving_the_same_again_gives_the_same_version(bench):
    first, other = bench.proposal("b"), bench.proposal("b", run="another night, the same change")
    assert bench.store.approve(first, by="ann", reason="one") == bench.store.approve(other, by="bob", reason="two")
    assert len(bench.store.versions()) == 1


def test_a_proposal_on_another_schema_is_refused(bench):
    stale = bench.proposal("c")
    bench.store.approve(bench.proposal("b"), by="ann", reason="one")
    with pytest.raises(SchemaVersionError, match=r"made on another schema than the current one \(version 1"):
        bench.store.approve(stale, by="ann", reason="two")
    assert bench.store.current() == 1


def test_of_two_different_approvals_at_once_one_wins_and_the_other_is_refused(bench):
    proposals = [bench.proposal(f"line {n}", run=f"run {n}", base=0) for n in range(8)]

    def approve(proposal):
        store = SchemaStore(bench.paths, "taxi", bench.models)
        try:
            return store.approve(proposal, by="ann", reason="one")
        except SchemaVersionError:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [version for version in pool.map(approve, proposals) if version]
    assert len(made) == len(bench.store.versions()) == 1
    assert bench.store.text(1) == next(p.text for p in proposals if p.run_id == made[0].run_id)


def test_a_version_without_a_reason_is_not_made(bench):
    with pytest.raises(SchemaVersionError, match="without a reason"):
        bench.store.approve(bench.proposal("b"), by="ann", reason=" \n")


def test_editing_the_curated_schema_supersedes_what_was_approved_on_the_old_one(bench):
    bench.store.approve(bench.proposal("b"), by="ann", reason="one")
    bench.store.curated.write_text("edited in git\n")
    assert bench.store.current() == 0
    assert bench.store.note(0) == (
        "the curated one: it has changed since, which supersedes version 1 (approved by ann: one)"
    )
    version = bench.store.approve(bench.proposal("c"), by="bob", reason="two")
    assert (version.version, version.base_version, bench.store.text(2)) == (2, 0, "edited in git\nc\n")


def test_adopting_puts_the_version_into_the_models_folder(bench):
    bench.store.approve(bench.proposal("b"), by="ann", reason="one")
    approved = bench.store.text(1)
    assert bench.store.adopt().version == 1
    assert bench.store.curated.read_text() == approved
    assert bench.store.current() == 0
    assert "which version 1 (approved by ann: one) was put into" in bench.store.note(0)
    with pytest.raises(SchemaVersionError, match="no active approved version"):
        bench.store.adopt()


def test_a_text_that_is_not_what_was_approved_is_not_used(bench):
    bench.store.approve(bench.proposal("b"), by="ann", reason="one")
    (bench.store.folder / "1.pbtxt").write_text("something else")
    with pytest.raises(SchemaVersionError, match="differs from the text approved"):
        bench.store.path(1)


def test_an_approval_that_died_between_text_and_record_leaves_no_version(bench):
    bench.store.folder.mkdir(parents=True)
    (bench.store.folder / "1.pbtxt").write_text("half")
    assert bench.store.current() == 0
    assert bench.store.approve(bench.proposal("b"), by="ann", reason="one").version == 1
    assert "half" not in bench.store.text(1)


def test_an_approved_answer_is_what_the_night_uses_from_now_on(bench):
    folder = bench.propose("b")
    review = answer(bench.paths, "taxi", folder, approved=True, by="ann", reason="a new meter", models=bench.models)
    night = Night.load(folder / "request.json")
    assert (night.schema_version, night.schema_note) == (1, "version 1 (approved by ann: a new meter)")
    assert SchemaReview.load(folder / SchemaReview.FILE) == review
    assert review.sentence == "ann approved the proposed schema change as version 1: a new meter"


def test_a_rejected_answer_changes_nothing_but_the_record(bench):
    folder = bench.propose("b")
    review = answer(bench.paths, "taxi", folder, approved=False, by="ann", reason="a fault", models=bench.models)
    assert review.sentence == "ann rejected the proposed schema change: a fault"
    assert (bench.store.current(), Night.load(folder / "request.json").schema_version) == (0, 0)


def test_answers_are_appended_and_none_is_lost(bench):
    folder = bench.propose("b")
    say = partial(answer, bench.paths, "taxi", folder, models=bench.models)
    first = say(approved=True, by="ann", reason="a new meter")
    assert say(approved=True, by="ann", reason="a new meter") == first, "a task's second try"
    assert set_aside_review(folder) == [first] and not (folder / SchemaReview.FILE).exists()  # as `plan` does
    say(approved=False, by="bob", reason="a fault")
    last = say(approved=False, by="cas", reason="a fault indeed")
    assert SchemaReview.load(folder / SchemaReview.FILE) == last
    assert [(review.by, review.decision) for review in last.earlier] == [("ann", "approved"), ("bob", "rejected")]
    assert last.sentence == (
        "cas rejected the proposed schema change: a fault indeed; before that, bob rejected the proposed schema "
        "change: a fault; before that, ann approved the proposed schema change as version 1: a new meter"
    )
