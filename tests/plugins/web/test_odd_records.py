"""The page of a night is drawn whatever values its records have."""

import json
import math
import random

import pytest

from nightly.records.base import ContractError
from nightly.records.distributions import Distributions
from nightly.records.evaluation import Evaluation
from nightly.records.labels import Labels
from nightly.records.night import GateResult, Night
from nightly.records.release import ReleaseRecord
from nightly.records.thresholds import ThresholdsUsed
from nightly.records.verdict import Outcome, Verdict
from nightly_airflow.web import render
from nightly_airflow.web.records import Records
from tests.support.labelled_nights import write_labelled_night
from tests.support.written_nights import reason, write_canary

NIGHTS = 60  # of each kind of label
NUMBERS = (0, -1, 1, 0.0, -0.5, 1e-320, 1e300, 1.7e308, -1.7e308, math.nan, math.inf, -math.inf)
TIMES = ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00")  # the first may be asked for
RECORDS = {
    "request.json": Night,
    "verdict.json": Verdict,
    "data_gate.json": GateResult,
    "model_gate.json": GateResult,
    "release.json": ReleaseRecord,
    "evaluation.json": Evaluation,
    Distributions.FILE: Distributions,
    Distributions.SERVING_FILE: Distributions,
    Labels.FILE: Labels,
    ThresholdsUsed.FILE: ThresholdsUsed,
}


def places(record):
    """Yield each place of a value in a record, as its container and its key."""
    for key, value in record.items() if isinstance(record, dict) else enumerate(record):
        yield record, key
        if isinstance(value, dict | list):
            yield from places(value)


def odd(chance: random.Random, value):
    """Return another value of the kind, as a record may have it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return chance.choice(([], value[:1], value + value[-1:]))
    if isinstance(value, dict):
        return chance.choice(({}, None, dict(list(value.items())[:1])))
    if isinstance(value, str):
        return chance.choice(("", value, *TIMES))
    return chance.choice((*NUMBERS, None, None))


def changed(chance: random.Random, text: str, contract) -> str:
    """Return a record's text with some odd values, which its contract accepts."""
    for _ in range(20):
        record = json.loads(text)
        if "reasons" in record and chance.random() < 0.5:
            record["reasons"] = [{**finding, "held": True} for finding in record["reasons"]]
        for _ in range(chance.randint(1, 6)):
            container, key = chance.choice(list(places(record)))
            container[key] = odd(chance, container[key])
        try:
            contract.parse(json.dumps(record), where="a test")
            return json.dumps(record)
        except ContractError:
            pass
    return text


@pytest.mark.parametrize("kind", ["binary", "classes", "number"])
def test_every_page_is_drawn_with_odd_values_in_the_records(paths, kind):
    chance = random.Random(kind)
    write_labelled_night(paths, 0, kind)
    held = reason(check="auc", subject="all examples", figure=-0.05, threshold=0.3, held=True, message="auc is -0.05")
    name = write_labelled_night(paths, 1, kind, Outcome.HELD_MODEL, held)
    folder = paths.nights / "taxi" / name
    write_canary(paths, 1456800100).save(folder / "release.json")
    texts = {file: (folder / file).read_text() for file in RECORDS}
    for _ in range(NIGHTS):
        odd_texts = {
            file: changed(chance, text, RECORDS[file]) if chance.random() < 0.5 else text
            for file, text in texts.items()
        }
        for file, text in odd_texts.items():
            (folder / file).write_text(text)
        records = Records(paths)
        details = records.night("taxi", name)
        assert not details.record.problems
        try:
            render.report(details)
            if details.release:
                render.page("release.html", base="", **render.release(details.release, details))
            render.page("model.html", base="", **render.model(records.model("taxi"), 1))
        except Exception as error:
            different = {file: text for file, text in odd_texts.items() if text != texts[file]}
            raise AssertionError(f"not drawn: {different}") from error
