"""The logged predictions of the two versions, each id once, with who asked and what was answered."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from nightly.prediction_log import read
from nightly.serving.models_config import CANARY, STABLE

COLUMNS = ["id", "canary", "caller", "probability"]
POSITIVE = b"1"  # the class of a classification


def logged(
    folder: Path, since: dt.datetime, stable: int, canary: int, output: str
) -> tuple[pd.DataFrame, dict[str, int]]:
    """One row a prediction: id, canary (whether it answered), caller (None where not logged) and probability.

    Only what chance has given to a version is compared: a request that names its version, or neither version nor label,
    is not among them, nor is a caller or an id that both have answered, for a caller who has met both (the share was
    changed, or the canary was out of reach for a time) would be counted for what it met last.

    :param output: of the model, whose one value is the probability
    :returns: the predictions, and how many were left out for which reason
    """
    tables = [_rows(table, stable, canary, output) for table in read(folder, since)]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*COLUMNS, "chosen"])
    left_out: dict[str, int] = {}

    def leave_out(why: str, which: pd.Series) -> None:
        nonlocal rows
        left_out[why] = int(which.sum())
        rows = rows[~which]

    leave_out("not asked by the label", ~rows["chosen"].astype(bool))
    leave_out("no probability", ~rows["probability"].astype(float).between(0, 1))
    leave_out("id answered by both versions", rows.groupby("id")["canary"].transform("nunique") > 1)
    leave_out("id answered again", rows.duplicated("id"))
    both = rows.groupby("caller")["canary"].transform("nunique") > 1  # of no caller, NaN
    leave_out("caller answered by both versions", both)
    return rows[COLUMNS], {why: count for why, count in left_out.items() if count}


def _rows(table: pa.Table, stable: int, canary: int, output: str) -> pd.DataFrame:
    version = table["serving/version"].to_pandas()
    label = table["serving/label"].to_pandas()
    rows = pd.DataFrame(
        {
            "id": table["serving/id"].to_pandas(),
            "canary": version == canary,
            "caller": table["serving/caller"].to_pandas(),
            "probability": list(_probabilities(table, output)),
            "chosen": ((version == canary) & (label == CANARY)) | ((version == stable) & (label == STABLE)),
        }
    )
    return rows[version.isin([stable, canary])]


def _probabilities(table: pa.Table, output: str) -> Iterator[float]:
    """The one value of the output, by its name or, where it is the only one, without; or the score of class 1."""

    def column(name: str) -> list[Any]:
        name = f"prediction/{name}"
        return table[name].to_pylist() if name in table.column_names else [None] * table.num_rows

    answers = zip(column(output), column("value"), column("classes"), column("scores"), strict=True)
    for named, alone, classes, scores in answers:
        values = named or alone or []
        if classes and scores and POSITIVE in classes:
            values = [scores[classes.index(POSITIVE)]]
        yield float(values[0]) if len(values) == 1 and isinstance(values[0], (int, float)) else float("nan")
