"""Writes synthetic complaints as CSV: any number of rows, reproducible by seed.

Frequencies follow Zipf's law, as in real complaints. Whether a complaint is disputed depends on its columns, so that a
model can learn it and pass the gates.
"""

import datetime as dt
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from nightly.io.paths import ROOT
from nightly.schemas.curated import read_schema

FIRST_DAY = dt.date(2016, 2, 29)  # the newest rows of a benchmark's first night
COMPANIES, WORDS, DAYS = 3_500, 8_000, 28
LONGEST = 16  # words of an issue
CHUNK_ROWS = 250_000
DISPUTED = -2.2  # log-odds of an average complaint; about 18 % are disputed


class World:
    """What all files share: the values, their frequencies, and their effects on the label."""

    def __init__(self) -> None:
        random = np.random.default_rng(2016)
        schema = read_schema(ROOT / "include/models/complaints/schema.pbtxt")
        domains = {domain.name: list(domain.value) for domain in schema.string_domain}
        syllables = ["".join(letters) for letters in itertools.product("bdfklmnprstv", "aeiou")]
        names = random.choice(syllables, (COMPANIES, 3))
        words = random.choice(syllables, (WORDS, 3))
        companies = [f"{''.join(parts).title()} {number} Inc." for number, parts in enumerate(names)]
        self.words = pa.array([f"{''.join(parts)}{number % 10}" for number, parts in enumerate(words)])
        self.word_effects = random.normal(0, 0.35, WORDS)
        self.values = {
            "product": pa.array(domains["product"]),
            "company": pa.array(companies),
            "state": pa.array(domains["state"]),
            "submitted_via": pa.array(domains["submitted_via"]),
            "timely_response": pa.array(["Yes", "No"]),
        }
        self.shares = {name: _zipf(len(values)) for name, values in self.values.items()}
        self.shares["timely_response"] = np.array([0.97, 0.03])
        self.effects = {name: random.normal(0, 0.8, len(values)) for name, values in self.values.items()}


def _zipf(values: int) -> np.ndarray:
    weights = 1 / np.arange(1, values + 1)
    return weights / weights.sum()


def write(path: Path, rows: int, *, seed: int, last_day: dt.date, days: int = DAYS) -> None:
    """Write `rows` complaints of the `days` days up to and including `last_day`, evenly spread."""
    world, random = World(), np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for first in range(0, rows, CHUNK_ROWS):
            batch = _chunk(world, random, first, min(CHUNK_ROWS, rows - first), last_day, days)
            if not first:  # without Arrow, which quotes the names: CsvExampleGen would keep the quotes
                file.write(",".join(batch.schema.names).encode() + b"\n")
            pa.csv.write_csv(batch, file, pa.csv.WriteOptions(include_header=False, quoting_style="needed"))


def _chunk(
    world: World, random: np.random.Generator, first: int, rows: int, last_day: dt.date, days: int
) -> pa.RecordBatch:
    texts = [(last_day - dt.timedelta(days=n)).strftime("%m/%d/%Y") for n in range(days)]
    columns = {"date_received": pa.array(texts).take(pa.array(random.integers(0, days, rows)))}
    odds = np.full(rows, DISPUTED)
    for name, values in world.values.items():
        chosen = random.choice(len(values), rows, p=world.shares[name])
        columns[name] = values.take(pa.array(chosen))
        odds += world.effects[name][chosen]
    lengths = random.integers(3, LONGEST + 1, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    chosen = random.choice(WORDS, offsets[-1], p=_zipf(WORDS))
    odds += np.add.reduceat(world.word_effects[chosen], offsets[:-1])
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), world.words.take(pa.array(chosen)))
    columns["issue"] = pc.binary_join(lists, " ")
    disputed = random.random(rows) < 1 / (1 + np.exp(-odds))
    columns["consumer_disputed"] = pa.array(np.where(disputed, "Yes", "No"))
    columns["complaint_id"] = pa.array(np.arange(first, first + rows))
    return pa.RecordBatch.from_pydict(columns)
