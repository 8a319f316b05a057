"""Measure how much each column alone tells of the label, to find the columns that give it away.

A small tree learns the label from one column on half of the sample, and is scored on the other half: AUC of a binary
label, accuracy of classes less what the most frequent class has, R² of a number's ranks. 1 is perfect and 0 (AUC: 0.5)
is nothing. A tree finds any function, and the other half keeps a column of unique values from looking like one.
"""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from nightly.new_model.labels import Label
from nightly.new_model.tables import Column, Table

ROWS = 20_000  # of the sample; scores are then known to about 0.002
SURE = 0.99  # from this score on a column is left out
SUSPECT = 0.95  # from this score on a person is asked
LEAVES = 64
MIN_LEAF = 5
ONLY_LATER = 0.02  # largest share of unlabelled rows in which a column that is known later has a value


class Finding(NamedTuple):
    """What a column tells of the label."""

    score: float
    sentence: str


class Alone:
    """Scores columns of one table against its label."""

    def __init__(self, table: Table, label: Label) -> None:
        column = table.columns[label.column]
        self._label = label
        labelled = np.flatnonzero(column.texts.is_valid().to_numpy(zero_copy_only=False))
        self._unlabelled = np.flatnonzero(column.texts.is_null().to_numpy(zero_copy_only=False))
        chance = np.random.default_rng(0)
        rows = chance.permutation(labelled)[:ROWS]
        half = len(rows) // 2
        self._learn, self._judge = rows[:half], rows[half:]
        if label.kind == "number":
            order = np.argsort(np.argsort(column.numbers, kind="stable"), kind="stable").astype(float)
            _, groups = np.unique(column.numbers, return_inverse=True)
            means = np.bincount(groups, order) / np.bincount(groups)
            self._targets = means[groups]  # the mean rank of equal numbers
        else:
            texts = _values(column)
            codes = {value: number for number, (value, _) in enumerate(column.counts)}
            classes = np.array([codes.get(value, -1) for value in texts])
            positive = [codes[value] for value in codes if label.is_positive(value)]
            self._targets = np.isin(classes, positive).astype(int) if label.kind == "binary" else classes

    def score(self, column: Column) -> float:
        """Return the column's score; 0 for lists and bytes."""
        if not column.is_single or len(self._judge) < 10 or len(set(self._targets[self._learn].tolist())) < 2:
            return 0.0
        inputs = column.numbers if column.is_number else self._encoded(column)
        learn, judge = inputs[self._learn, None], inputs[self._judge, None]
        targets, truth = self._targets[self._learn], self._targets[self._judge]
        kind = DecisionTreeRegressor if self._label.kind == "number" else DecisionTreeClassifier
        tree = kind(max_leaf_nodes=LEAVES, min_samples_leaf=MIN_LEAF, random_state=0).fit(learn, targets)
        if self._label.kind == "number":
            spread = float(np.square(truth - truth.mean()).sum()) or 1.0
            return 1 - float(np.square(truth - tree.predict(judge)).sum()) / spread
        if self._label.kind == "binary":
            if len(set(truth.tolist())) < 2:
                return 0.0
            return float(roc_auc_score(truth, tree.predict_proba(judge)[:, 1]))
        share = float((truth == np.bincount(targets).argmax()).mean())
        accuracy = float((truth == tree.predict(judge)).mean())
        return (accuracy - share) / (1 - share) if share < 1 else 0.0

    def finding(self, column: Column) -> Finding | None:
        """Return why the column may give the label away, or None."""
        if self._is_later(column):
            return Finding(1.0, "it has a value only where the label has one, so it is known only later")
        score = self.score(column)
        if score < SUSPECT:
            return None
        what = {"binary": "an AUC of", "classes": "a skill of", "number": "an R² of ranks of"}[self._label.kind]
        alone = f"alone it predicts the label with {what} {score:.3f} on rows held out"
        return Finding(score, alone + (", so it gives it away" if score >= SURE else ""))

    def _is_later(self, column: Column) -> bool:
        """Return whether unlabelled rows have no value, and labelled ones do."""
        if len(self._unlabelled) < 20 or not column.present:
            return False
        present = column.texts.is_valid().to_numpy(zero_copy_only=False)
        without, with_label = present[self._unlabelled].mean(), np.delete(present, self._unlabelled).mean()
        return bool(without <= ONLY_LATER and with_label >= 0.5)

    def _encoded(self, column: Column) -> np.ndarray:
        """Return a number for each text: the mean target of its rows in the half to learn from."""
        encoded = column.texts.dictionary_encode()
        codes = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
        size = len(encoded.dictionary) + 1
        rows = np.bincount(codes[self._learn], minlength=size)
        if self._label.kind == "classes":  # classes have no order: values are ordered by their most frequent class
            table = np.zeros((size, int(self._targets.max()) + 1))
            np.add.at(table, (codes[self._learn], self._targets[self._learn]), 1)
            means = table.argmax(axis=1).astype(float)
        else:
            sums = np.bincount(codes[self._learn], self._targets[self._learn], minlength=size)
            means = sums / np.maximum(rows, 1)
        means[rows == 0] = self._targets[self._learn].mean()
        return means[codes]


def _values(column: Column) -> list[str | None]:
    """Return the sample's values as `counts` writes them."""
    if column.is_text:
        return column.texts.to_pylist()
    numbers = column.numbers
    if column.type == "int64":
        return [None if np.isnan(number) else str(int(number)) for number in numbers]
    return [str(number) for number in numbers]
