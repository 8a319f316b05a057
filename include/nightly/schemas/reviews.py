"""A person's answers to the proposed schema change of a night, in the night's folder."""

from pathlib import Path

from nightly.io.atomic import append_line
from nightly.records.schema import ANSWERS, SchemaReview


def save_review(folder: Path, review: SchemaReview) -> SchemaReview:
    """Save `review` as the night's answer, keep the earlier answers, and return it with them.

    Repeating the same answer, as a task's second try does, changes nothing.
    """
    if (folder / SchemaReview.FILE).exists():
        saved = SchemaReview.load(folder / SchemaReview.FILE)
        if saved.model_copy(update={"answered_at": review.answered_at, "earlier": []}) == review:
            return saved
    review = review.model_copy(update={"earlier": set_aside_review(folder)})
    review.save(folder / SchemaReview.FILE)
    return review


def set_aside_review(folder: Path) -> list[SchemaReview]:
    """Move the answer of the night in `folder` to its earlier answers, and return these, oldest first."""
    review, answers = folder / SchemaReview.FILE, folder / ANSWERS
    lines = answers.read_text().splitlines() if answers.exists() else []
    if review.exists():
        line = SchemaReview.load(review).model_copy(update={"earlier": []}).model_dump_json()
        if line not in lines[-1:]:  # it is there if a process died before the unlink below
            append_line(answers, line)
            lines.append(line)
        review.unlink()
    return [SchemaReview.parse(line, where=str(answers)) for line in lines]
