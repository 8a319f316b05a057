"""The logged predictions of the two versions, each id once, with the caller and the answer."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nightly.canary.losses import Loss, width
from nightly.io.paths import Paths
from nightly.prediction_log import read
from nightly.records.config import ModelConfig
from nightly.records.golden import GOLDEN, Golden
from nightly.records.label_spec import LABEL_SPEC, LabelSpec
from nightly.serving.models_config import CANARY, STABLE
from nightly.state import fetch

COLUMNS = ["id", "canary", "caller"]
POSITIVE = "1"  # the positive class of a binary model's classification
CLASS_NAMES, SCORES = "prediction/classes", "prediction/scores"  # a classification in the log


@dataclass(frozen=True)
class Version:
    number: int
    spec: LabelSpec

    @classmethod
    def of(cls, paths: Paths, config: ModelConfig, number: int) -> "Version":
        """Return a released version. One of an older release has no label.json: it is binary, as the config says."""
        folder = paths.serving / config.name / str(number)
        fetch(folder)
        spec = LabelSpec.of_model(folder, config.data.label)
        if not (folder / LABEL_SPEC).exists() and (folder / GOLDEN).exists():  # a run_fn may have named the output
            spec = spec.model_copy(update={"output": Golden.load(folder / GOLDEN).output})
        return cls(number, spec)


@dataclass(frozen=True)
class Predictions:
    rows: pd.DataFrame  # id, canary (whether it answered), caller (or None)
    answers: np.ndarray  # [rows, …], of both versions in the form that the loss takes
    left_out: dict[str, int]  # reason -> predictions


def logged(folder: Path, since: dt.datetime, stable: Version, canary: Version, loss: Loss) -> Predictions:
    """Return the predictions since `since`.

    Only randomly assigned requests are compared. So these are left out: requests without a label, and ids and callers
    that both versions have answered. A caller meets both if the share changes, or if the canary is away for a time.
    """
    parts = [
        (_rows(table, label), loss.answers(_values(table, version.spec), version.spec))
        for table_of_both in read(folder, since)
        for version, label in ((stable, STABLE), (canary, CANARY))
        if (table := table_of_both.filter(pc.equal(table_of_both["serving/version"], version.number))).num_rows
    ]
    if not parts:
        return Predictions(pd.DataFrame(columns=COLUMNS), np.empty((0, 1)), {})
    rows = pd.concat([part for part, _ in parts], ignore_index=True)
    answers = np.concatenate([part for _, part in parts])
    left_out: dict[str, int] = {}

    def leave_out(why: str, mask: pd.Series) -> None:
        nonlocal rows
        left_out[why] = int(mask.sum())
        rows = rows[~mask]

    leave_out("not asked by the label", ~rows["chosen"])
    leave_out(loss.no_answer, pd.Series(np.isnan(answers).any(axis=1))[rows.index])
    leave_out("id answered by both versions", rows.groupby("id")["canary"].transform("nunique") > 1)
    leave_out("id answered again", rows.duplicated("id"))
    both = rows.groupby("caller")["canary"].transform("nunique") > 1  # NaN without a caller, so False
    leave_out("caller answered by both versions", both)
    counts = {why: count for why, count in left_out.items() if count}
    return Predictions(rows[COLUMNS].reset_index(drop=True), answers[rows.index], counts)


def _rows(table: pa.Table, label: str) -> pd.DataFrame:
    """Return the rows of the version that callers get by `label`."""
    return pd.DataFrame(
        {
            "id": table["serving/id"].to_pandas(),
            "canary": label == CANARY,
            "caller": table["serving/caller"].to_pandas(),
            "chosen": table["serving/label"].to_pandas() == label,
        }
    )


def _values(table: pa.Table, spec: LabelSpec) -> np.ndarray:
    """Return the judged output of each row [n, width(spec)]; NaN in rows that lack it.

    It is logged by its name, without a name if it is the only output, or as a classification.
    """
    values = np.full((table.num_rows, width(spec)), np.nan)
    logged_as = [f"prediction/{spec.output}", "prediction/value"]
    columns = [table[name] for name in logged_as if name in table.column_names]
    if {CLASS_NAMES, SCORES} <= {*table.column_names} and spec.kind != "number":
        columns.append(_scores(table, [POSITIVE] if spec.kind == "binary" else spec.classes))
    for column in columns:
        missing = np.isnan(values).any(axis=1)
        values[missing] = _numbers(column, values.shape[1])[missing]
    return values


def _numbers(lists: pa.ChunkedArray, count: int) -> np.ndarray:
    """Return lists of `count` numbers as [n, count]; NaN for any other list."""
    numbers = np.full((len(lists), count), np.nan)
    rows = np.flatnonzero(pc.fill_null(pc.equal(pc.list_value_length(lists), count), False))
    flat = pc.list_flatten(lists.take(rows)).to_pandas()
    if flat.dtype == object:  # where some rows have text, the log has the other rows' numbers as text, too
        flat = pd.to_numeric(flat.str.decode("utf-8", "replace"), errors="coerce")
    numbers[rows] = flat.to_numpy(float).reshape(-1, count)
    return numbers


def _scores(table: pa.Table, classes: list[str]) -> pa.ChunkedArray:
    """Return the scores of each row's classification in the order of `classes`, or null if it lacks one."""
    wanted = [name.encode() for name in classes]
    scores = []
    for names, numbers in zip(table[CLASS_NAMES].to_pylist(), table[SCORES].to_pylist(), strict=True):
        by_name = dict(zip(names or [], numbers or [], strict=False))
        scores.append([by_name[name] for name in wanted] if by_name.keys() >= set(wanted) else None)
    return pa.chunked_array([pa.array(scores, table[SCORES].type)])
