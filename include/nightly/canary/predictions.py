"""The logged predictions of the two versions, each id once, with caller and probability."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from nightly.prediction_log import read
from nightly.serving.models_config import CANARY, STABLE

COLUMNS = ["id", "canary", "caller", "probability"]
POSITIVE = b"1"  # the positive class of a classification


def logged(
    folder: Path, since: dt.datetime, stable: int, canary: int, output: str
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the predictions since `since`, one a row: id, canary (whether it answered), caller (or None), probability.

    Only randomly assigned requests are compared. So these are left out: requests without a label, and ids and callers
    that both versions have answered. A caller meets both if the share changes, or if the canary is away for a time.

    :param output: the model's output whose single value is the probability
    :returns: the predictions, and reason -> how many were left out
    """
    tables = [_rows(table, stable, canary, output) for table in read(folder, since)]
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*COLUMNS, "chosen"])
    left_out: dict[str, int] = {}

    def leave_out(why: str, mask: pd.Series) -> None:
        nonlocal rows
        left_out[why] = int(mask.sum())
        rows = rows[~mask]

    leave_out("not asked by the label", ~rows["chosen"].astype(bool))
    leave_out("no probability", ~rows["probability"].astype(float).between(0, 1))
    leave_out("id answered by both versions", rows.groupby("id")["canary"].transform("nunique") > 1)
    leave_out("id answered again", rows.duplicated("id"))
    both = rows.groupby("caller")["canary"].transform("nunique") > 1  # NaN without a caller, so False
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
    """Yield each row's probability: the output's value (by name, or the only output), or the score of class 1."""

    def column(name: str) -> list[Any]:
        name = f"prediction/{name}"
        return table[name].to_pylist() if name in table.column_names else [None] * table.num_rows

    answers = zip(column(output), column("value"), column("classes"), column("scores"), strict=True)
    for named, unnamed, classes, scores in answers:
        values = named or unnamed or []
        if classes and scores and POSITIVE in classes:
            values = [scores[classes.index(POSITIVE)]]
        yield float(values[0]) if len(values) == 1 and isinstance(values[0], (int, float)) else float("nan")
