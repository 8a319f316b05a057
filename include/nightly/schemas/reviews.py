"""A person's answers to the proposed schema change of a night, in the night's folder."""

from pathlib import Path

from nightly.io.atomic import append_line
from nightly.records.schema import ANSWERS, REVIEW, SchemaReview


def save_review(folder: Path, review: SchemaReview) -> SchemaReview:
    """Make `review` the night's answer; those before it stay on record. Return it with them.

    The same answer again, as of a task's second try, changes nothing.
    """
    if (folder / REVIEW).exists():
        saved = SchemaReview.load(folder / REVIEW)
        if saved.model_copy(update={"answered_at": review.answered_at, "earlier": []}) == review:
            return saved
    review = review.model_copy(update={"earlier": set_aside_review(folder)})
    review.save(folder / REVIEW)
    return review


def set_aside_review(folder: Path) -> list[SchemaReview]:
    """Leave the night in `folder` without an answer, if it had one. Return all its answers so far, oldest first."""
    review, answers = folder / REVIEW, folder / ANSWERS
    lines = answers.read_text().splitlines() if answers.exists() else []
    if review.exists():
        line = SchemaReview.load(review).model_copy(update={"earlier": []}).model_dump_json()
        if line not in lines[-1:]:  # a process may have died before the next line
            append_line(answers, line)
            lines.append(line)
        review.unlink()
    return [SchemaReview.parse(line, where=str(answers)) for line in lines]
