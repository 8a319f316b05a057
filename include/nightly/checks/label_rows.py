"""Count the labels of a snapshot's rows, and of the rows with one value of a feature."""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nightly.records.label_config import BinaryLabel, ClassesLabel, NumberLabel
from nightly.records.label_spec import NEGATIVE, OTHER, POSITIVE, LabelSummary
from nightly.records.snapshot import CountedLabels
from nightly.snapshots.labels import LabelCounter, is_number, quantiles

CLASSES = 50  # counted one by one for each value of a feature, the most frequent; the others are counted together
PARTS = 20  # of the numbers of one value of a feature
NOT_RECORDED = -1

Label = BinaryLabel | ClassesLabel | NumberLabel
ByValue = dict[str, dict[str, LabelSummary]]  # feature -> value -> the labels of its rows


def count_again(folder: Path, label: Label) -> CountedLabels:
    """Count the labels of a snapshot whose manifest counted another label."""
    counter = LabelCounter(label.column, label.kind)
    for path in _shards(folder):
        if label.column in pq.read_schema(path).names:
            counter.add(pq.read_table(path, columns=[label.column]).column(0))
    return CountedLabels(
        label_column=label.column,
        label_kind=label.kind,
        label_counts=counter.counts,
        label_quantiles=counter.quantiles,
    )


def frequent_values(folder: Path, columns: Collection[str], most: int, least: int) -> dict[str, list[str]]:
    """Return column -> its most frequent values, at most `most`, each in at least `least` rows.

    Columns without such a value are left out. Statistics have the values of texts, and none of numbers.
    """
    paths, frequent = _shards(folder), {}
    for name in columns:
        chunks = [chunk for column in _read(paths, name, dictionary=False) for chunk in column.chunks]
        if not chunks:
            continue
        counted = pa.chunked_array(chunks).drop_null().value_counts()
        counted = counted.filter(pc.greater_equal(counted.field("counts"), least)).to_pylist()
        counted.sort(key=lambda pair: (-pair["counts"], pair["values"]))
        if counted:
            frequent[name] = [str(pair["values"]) for pair in counted[:most]]
    return frequent


def label_by_value(
    folder: Path, values: dict[str, list[str]], label: Label, every: LabelSummary, classes: Collection[str] = ()
) -> ByValue:
    """Return the labels of each value of each feature, the most frequent value first.

    Only `values` (feature -> values) are counted: free text has as many values as rows. Each column is read once.

    :param every: the labels of all rows
    :param classes: the only values that count as recorded; empty if all do
    """
    paths = _shards(folder)
    names = pq.read_schema(paths[0]).names if paths else []
    if label.column not in names:
        return {}
    if isinstance(label, NumberLabel):
        if not is_number(pq.read_schema(paths[0]).field(label.column).type):
            return {}
        groups: _Groups = _Numbers(paths, label.column)
    else:
        groups = _Classes(paths, label, every, classes)
    by_feature: ByValue = {}
    for feature, listed in values.items():
        if feature in names and feature != label.column:
            positions = (_positions(column, listed) for column in _read(paths, feature))
            summaries = zip(listed, groups.summaries(positions, len(listed)), strict=True)
            ordered = sorted(summaries, key=lambda item: (-item[1].rows, item[0]))
            if counted := {value: summary for value, summary in ordered if summary.rows}:
                by_feature[feature] = counted
    return by_feature


class _Classes:
    """Labels as indices of a few names; memory: 2 bytes a row, and one file's work."""

    def __init__(
        self, paths: list[Path], label: BinaryLabel | ClassesLabel, every: LabelSummary, classes: Collection[str]
    ) -> None:
        if isinstance(label, BinaryLabel):
            self.names, listed = [POSITIVE, NEGATIVE], None
        else:
            listed = sorted(every.counts, key=lambda name: (-every.counts[name], name))[:CLASSES]
            self.names = [*listed, OTHER]
        self.indices = []
        for column in _read(paths, label.column, dictionary=False):
            texts = column.cast(pa.string())
            if listed is None:
                index = 1 - pc.is_in(texts, pa.array(label.positive, pa.string())).to_numpy().astype(np.int16)
            else:
                index = pc.index_in(texts, pa.array(listed, pa.string())).fill_null(len(listed)).to_numpy()
            self.indices.append(np.where(_recorded(texts, classes), index, NOT_RECORDED).astype(np.int16))

    def summaries(self, positions: Iterator[np.ndarray], values: int) -> Iterator[LabelSummary]:
        """Yield the labels of the rows at each position below `values`.

        :param positions: of each file's rows
        """
        width = len(self.names)
        counts = np.zeros((values + 1) * width, np.int64)
        for of_file, index in zip(positions, self.indices, strict=True):
            known = index != NOT_RECORDED
            cells = of_file[known].astype(np.int64) * width + index[known]
            counts += np.bincount(cells, minlength=len(counts))
        for row in counts.reshape(-1, width)[:values].tolist():
            pairs = zip(self.names, row, strict=True)
            yield LabelSummary.of_counts({name: rows for name, rows in pairs if rows})


class _Numbers:
    """Labels as numbers, sorted once; memory: 25 bytes a row."""

    def __init__(self, paths: list[Path], column: str) -> None:
        columns = _read(paths, column, dictionary=False)
        # Null is NaN. A whole number beyond 2**53 is the nearest that a float has.
        numbers = np.concatenate([column.cast(pa.float64(), safe=False).to_numpy() for column in columns])
        (finite,) = np.nonzero(np.isfinite(numbers))
        self.order = finite[np.argsort(numbers[finite], kind="stable")]
        self.numbers = numbers[self.order]

    def summaries(self, positions: Iterator[np.ndarray], values: int) -> Iterator[LabelSummary]:
        """Yield the labels of the rows at each position below `values`.

        :param positions: of each file's rows
        """
        ordered = np.concatenate(list(positions))[self.order]
        grouped = self.numbers[np.argsort(ordered, kind="stable")]  # each group stays sorted
        ends = np.cumsum(np.bincount(ordered, minlength=values + 1))
        for start, end in zip([0, *ends[: values - 1]], ends[:values], strict=True):
            yield LabelSummary(rows=int(end - start), quantiles=quantiles(grouped[start:end], PARTS))


_Groups = _Classes | _Numbers


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("rows-*.parquet"))


def _read(paths: list[Path], column: str, *, dictionary: bool = True) -> Iterator[pa.ChunkedArray]:
    """Yield the column of each file; as a dictionary, so that each value is decoded once."""
    for path in paths:
        yield pq.ParquetFile(path, read_dictionary=[column] if dictionary else []).read(columns=[column]).column(0)


def _recorded(labels: pa.ChunkedArray, classes: Collection[str]) -> np.ndarray:
    known = pc.is_in(labels, pa.array(sorted(classes), pa.string())) if classes else labels.is_valid()
    return known.to_numpy()


def _positions(column: pa.ChunkedArray, values: list[str]) -> np.ndarray:
    """Return each row's index in `values`, or len(values) for nulls and other values; shape [rows]."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    encoded = encoded.unify_dictionaries().combine_chunks()
    positions = pc.index_in(encoded.dictionary.cast(pa.string()), pa.array(values, pa.string()))
    return positions.take(encoded.indices).fill_null(len(values)).to_numpy().astype(np.uint16)
