"""What a stream of scored examples leaves behind: the sums of every slice, and a bounded, even sample."""

import zlib
from dataclasses import dataclass, field, replace

import numpy as np

from nightly.evaluation.formulas import Formula, formulas
from nightly.evaluation.scored import Scored, checked, joined, not_finite, slices
from nightly.evaluation.sums import TERMS
from nightly.records.evaluation import NotFinite
from nightly.records.label_config import Kind

SAMPLE_ROWS = 500_000  # standard errors and charts come from a sample of this size at most,
SAMPLE_VALUES = 16_000_000  # with at most this many scores: 64 MB

SliceKey = tuple[tuple[str, str], ...]  # TFMA's: () or ((column, value),)


@dataclass(frozen=True)
class Plan:
    """What to measure. Beam's workers get it too."""

    kind: Kind
    models: list[str]
    metrics: list[str]  # names of records.metrics, or of TFMA; METRIC:CLASS is one class's
    slices: list[str] = field(default_factory=list)  # columns
    classes: list[str] = field(default_factory=list)
    weighted: bool = False

    @property
    def formulas(self) -> dict[str, Formula]:
        """The metrics that are functions of sums, by name."""
        return formulas(self.kind, self.metrics, self.classes)

    @property
    def others(self) -> list[str]:
        """The metrics that TFMA computes, example by example."""
        known = self.formulas
        return [name for name in self.metrics if name not in known]

    @property
    def sample_rows(self) -> int:
        return min(SAMPLE_ROWS, SAMPLE_VALUES // (max(len(self.classes), 1) * len(self.models)))


@dataclass
class SliceSums:
    examples: int = 0
    vectors: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)  # model -> name -> sums

    def merge(self, other: "SliceSums") -> None:
        self.examples += other.examples
        for model, vectors in other.vectors.items():
            mine = self.vectors.setdefault(model, {})
            for name, vector in vectors.items():
                mine[name] = mine[name] + vector if name in mine else vector


@dataclass
class Measured:
    """Accumulates batches. Parts of a stream can be merged in any order.

    A model that answers an example with NaN or an infinite number is not measured any further: no metric of it means
    anything. The others are.
    """

    plan: Plan
    slices: dict[SliceKey, SliceSums] = field(default_factory=dict)
    parts: list[tuple[np.ndarray, Scored]] = field(default_factory=list)  # the sample: random keys, and examples
    class_examples: np.ndarray | int = 0  # classes: [classes]
    not_finite: dict[str, NotFinite] = field(default_factory=dict)  # by model
    vectors: list[str] = field(init=False)  # names of sums.TERMS

    def __post_init__(self) -> None:
        self.vectors = sorted({formula.sums for formula in self.plan.formulas.values()})

    def add(self, batch: Scored) -> "Measured":
        """Add a batch. Raises EvaluationError for a negative weight."""
        if not len(batch):
            return self
        batch = checked(batch)
        weights, plan = batch.all_weights, self.plan
        for model in plan.models:
            self._note(model, _not_finite(batch, model))
        terms = {
            model: {
                name: TERMS[plan.kind][name](batch.labels, batch.scores[model], len(plan.classes))
                for name in self.vectors
            }
            for model in self.sound.models
        }
        for key, rows in slices(batch, plan.slices):
            part = SliceSums(
                len(weights[rows]),
                {
                    model: {name: part.of(rows).sums(weights[rows]) for name, part in by_name.items()}
                    for model, by_name in terms.items()
                },
            )
            self.slices.setdefault(key, SliceSums()).merge(part)
        if plan.kind == "classes":
            self.class_examples = self.class_examples + np.bincount(batch.labels, minlength=len(plan.classes))
        # Seeded by the batch, so that a retry takes the same sample.
        keys = np.random.default_rng(zlib.crc32(batch.labels.tobytes() + weights.tobytes())).random(len(batch))
        self.parts.append((keys, replace(batch, ids=None)))
        self._bound(2 * plan.sample_rows)
        return self

    def merge(self, other: "Measured") -> "Measured":
        for key, sums in other.slices.items():
            self.slices.setdefault(key, SliceSums()).merge(sums)
        self.class_examples = self.class_examples + other.class_examples
        for model, bad in other.not_finite.items():
            self._note(model, bad)
        self.parts += other.parts
        self._bound(2 * self.plan.sample_rows)
        return self

    @property
    def sound(self) -> Plan:
        """The plan of the models whose answers are all finite."""
        return replace(self.plan, models=[model for model in self.plan.models if model not in self.not_finite])

    @property
    def examples(self) -> int:
        return self.slices[()].examples if self.slices else 0

    def sample(self) -> Scored:
        """Return the sample, all examples if there are no more than SAMPLE_ROWS."""
        self._bound(self.plan.sample_rows)
        return joined([batch for _, batch in self.parts])

    def _note(self, model: str, bad: NotFinite | None) -> None:
        if bad:
            known = self.not_finite.get(model, NotFinite(examples=0, first=bad.first))
            self.not_finite[model] = NotFinite(examples=known.examples + bad.examples, first=known.first)

    def _bound(self, rows: int) -> None:
        """Keep the examples with the smallest keys, if there are more than `rows`."""
        if sum(len(keys) for keys, _ in self.parts) <= rows:
            return
        keys = np.concatenate([keys for keys, _ in self.parts])
        kept = np.sort(np.argpartition(keys, self.plan.sample_rows)[: self.plan.sample_rows])
        self.parts = [(keys[kept], joined([batch for _, batch in self.parts]).take(kept))]


def _not_finite(batch: Scored, model: str) -> NotFinite | None:
    """Return how many examples the model answers with NaN or an infinite number; None if it does not."""
    bad = not_finite(batch.scores[model])
    if not bad.any():
        return None
    first = batch.ids[int(bad.argmax())].as_py() if batch.ids is not None else ""
    return NotFinite(examples=int(bad.sum()), first=first)
