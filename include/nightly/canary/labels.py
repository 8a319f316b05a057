"""Labels that became known after the prediction, by the id that the client logged. The latest label of an id counts.

    snapshots   rows of snapshots since the canary began; the id is the values of data.id_columns, joined by `:`
    feedback    files in var/feedback/<model>/, Parquet or CSV with the columns id and label. Hidden files are not read,
                so write a file under a hidden name (.new.csv) and rename it when it is complete. If the state is in a
                bucket, they are the objects feedback/<model>/… of it

Labels have the values of the label column in the data (data.label): a class by its text, a number as a number. Blank
labels are ignored.
"""

import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from nightly.io.errors import UserError
from nightly.io.paths import Paths
from nightly.records.config import ModelConfig
from nightly.records.label_spec import LabelSpec
from nightly.snapshots.errors import DamagedSnapshotError
from nightly.snapshots.store import SnapshotStore
from nightly.snapshots.verification import verify_snapshot
from nightly.state import current

log = logging.getLogger("nightly")

COLUMNS = ["id", "label"]


class FeedbackError(UserError, ValueError):
    """A file of labels cannot be read. The message names it and the expected format."""


def later_labels(
    paths: Paths, config: ModelConfig, spec: LabelSpec, since: dt.datetime, ids: pd.Index
) -> tuple[pd.Series, dict[str, int]]:
    """Return the labels of `ids` as text, by id, and how many of them each source had. Raises FeedbackError."""
    sources = {"snapshots": _of_snapshots, "feedback": _of_feedback}
    dated, counts = [], {}
    for name in config.release.canary.labels:
        tables = [(when, _known(table, ids)) for when, table in sources[name](paths, config, spec, since)]
        dated += tables
        counts[name] = len(pd.Index([]).append([pd.Index(table["id"]) for _, table in tables]).unique())
    if not dated:
        return pd.Series(dtype=str), counts
    labels = pd.concat([table for _, table in sorted(dated, key=lambda pair: pair[0])])
    return labels.drop_duplicates("id", keep="last").set_index("id")["label"], counts


def _known(table: pa.Table, ids: pd.Index) -> pd.DataFrame:
    """Return the rows with an id in `ids` and a label, as text."""
    rows = table.to_pandas()
    return rows[rows["id"].isin(ids) & rows["label"].notna() & (rows["label"] != "")]


def _of_snapshots(
    paths: Paths, config: ModelConfig, spec: LabelSpec, since: dt.datetime
) -> Iterator[tuple[dt.datetime, pa.Table]]:
    store = SnapshotStore(paths.snapshots, config.name)
    ids, label = config.data.id_columns, spec.column
    for manifest in store.manifests():
        if manifest.created_at < since or not ids or not {*ids, label} <= manifest.columns.keys():
            continue
        try:
            verify_snapshot(store.path(manifest.snapshot_id))
        except DamagedSnapshotError as error:
            log.warning("its labels are left out: %s", error)
            continue
        for file in manifest.files:
            rows = pq.read_table(store.path(manifest.snapshot_id) / file.name, columns=[*ids, label])
            joined = pc.binary_join_element_wise(*(rows[name].cast(pa.string()) for name in ids), ":")
            yield manifest.created_at, pa.table([joined, rows[label].cast(pa.string())], COLUMNS)


def _of_feedback(
    paths: Paths, config: ModelConfig, spec: LabelSpec, since: dt.datetime
) -> Iterator[tuple[dt.datetime, pa.Table]]:
    state, sent_to = current(), paths.feedback / config.name
    folder = state.receive(sent_to, lambda name, _: name.endswith((".parquet", ".csv")))
    files = [path for kind in ("parquet", "csv") for path in folder.glob(f"[!.]*.{kind}")]
    for path in sorted(files):
        written = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
        table = _read(path, spec, state.address(sent_to))
        if spec.kind == "number":
            _refuse_text(path, table, state.address(sent_to))
        yield written, table


def _read(path: Path, spec: LabelSpec, address: str) -> pa.Table:
    """Return the labels as text. Raises FeedbackError, which names the file's folder by its `address`."""
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path, columns=COLUMNS)
        else:
            options = pyarrow.csv.ConvertOptions(
                include_columns=COLUMNS,
                column_types=dict.fromkeys(COLUMNS, pa.string()),
                strings_can_be_null=True,
                null_values=[""] if spec.kind == "classes" else None,  # a class may be named NA or null
            )
            table = pyarrow.csv.read_csv(path, convert_options=options)
        return pa.table([_text(table[name]) for name in COLUMNS], COLUMNS)
    except (pa.ArrowException, KeyError) as error:
        raise FeedbackError(
            f"{address}/{path.name} holds no labels that can be read ({error}): it must be Parquet or CSV with the "
            f"columns id and label. Mend it, or move it out of {address}"
        ) from error


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)  # as pandas and NumPy write a blank
    return column.cast(pa.string())


def _refuse_text(path: Path, table: pa.Table, address: str) -> None:
    """Raise FeedbackError if a label that is not blank is not a finite number."""
    rows = table.to_pandas()
    blank = rows["label"].isna() | (rows["label"] == "")
    refused = rows[~blank & ~np.isfinite(pd.to_numeric(rows["label"], errors="coerce").astype(float))]
    if len(refused):
        row = refused.index[0]
        raise FeedbackError(
            f"{address}/{path.name}, row {row + 1}: the label {refused['label'][row]!r} of the id "
            f"{refused['id'][row]!r} is not a number. Mend it, or move the file out of {address}"
        )
